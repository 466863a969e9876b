"""What generative models are trained and judged by."""

from keras_regularize.generative.audio import MultiScaleDiscriminator, SpectralUNet
from keras_regularize.generative.autoencoder_sampler import AutoencoderSampler
from keras_regularize.generative.black_box import (
    black_box_cross_entropy,
    black_box_square_loss,
    sequential_cross_entropy,
)
from keras_regularize.generative.continuation import greedy_continuation
from keras_regularize.generative.image_translation import PatchDiscriminator, UNetGenerator
from keras_regularize.generative.pseudo_huber import pseudo_huber_schedule, scheduled_pseudo_huber
from keras_regularize.generative.unlearning import adapt_then_unlearn
from keras_regularize.losses.audio._feature_matching import feature_matching_loss
from keras_regularize.losses.condition_lipschitz import condition_lipschitz_penalty
from keras_regularize.losses.domain_transfer import (
    domain_transfer_discriminator_loss,
    domain_transfer_generator_loss,
)
from keras_regularize.losses.generative_adversarial import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)
from keras_regularize.losses.probabilistic.supnotmiwae import supnotmiwae_loss
from keras_regularize.losses.text._implicit_unlikelihood import implicit_unlikelihood_loss
from keras_regularize.ops.ngrams import ngram_repeat_mask
from keras_regularize.regularizers.anchors.repulsion import parameter_repulsion

__all__ = [
    "MultiScaleDiscriminator",
    "SpectralUNet",
    "AutoencoderSampler",
    "PatchDiscriminator",
    "UNetGenerator",
    "adapt_then_unlearn",
    "black_box_cross_entropy",
    "black_box_square_loss",
    "condition_lipschitz_penalty",
    "discriminator_loss",
    "domain_transfer_discriminator_loss",
    "domain_transfer_generator_loss",
    "feature_matching_loss",
    "generator_loss",
    "gradient_penalty",
    "greedy_continuation",
    "implicit_unlikelihood_loss",
    "ngram_repeat_mask",
    "parameter_repulsion",
    "pseudo_huber_schedule",
    "r1_penalty",
    "scheduled_pseudo_huber",
    "sequential_cross_entropy",
    "supnotmiwae_loss",
]
