"""What generative models are trained and judged by."""

from keras_regularize.generative.autoencoder_sampler import AutoencoderSampler
from keras_regularize.generative.black_box import (
    black_box_cross_entropy,
    black_box_square_loss,
    sequential_cross_entropy,
)
from keras_regularize.generative.continuation import greedy_continuation
from keras_regularize.generative.pseudo_huber import pseudo_huber_schedule, scheduled_pseudo_huber
from keras_regularize.losses.audio._feature_matching import feature_matching_loss
from keras_regularize.losses.probabilistic.supnotmiwae import supnotmiwae_loss
from keras_regularize.losses.text._implicit_unlikelihood import implicit_unlikelihood_loss
from keras_regularize.ops.ngrams import ngram_repeat_mask

__all__ = [
    "feature_matching_loss",
    "greedy_continuation",
    "implicit_unlikelihood_loss",
    "ngram_repeat_mask",
    "AutoencoderSampler",
    "black_box_cross_entropy",
    "black_box_square_loss",
    "pseudo_huber_schedule",
    "scheduled_pseudo_huber",
    "sequential_cross_entropy",
    "supnotmiwae_loss",
]
