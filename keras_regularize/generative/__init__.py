"""What generative models are trained and judged by."""

from keras_regularize.generative.autoencoder_sampler import AutoencoderSampler
from keras_regularize.generative.black_box import (
    black_box_cross_entropy,
    black_box_square_loss,
    sequential_cross_entropy,
)
from keras_regularize.generative.image_translation import PatchDiscriminator, UNetGenerator
from keras_regularize.generative.pseudo_huber import pseudo_huber_schedule, scheduled_pseudo_huber
from keras_regularize.losses.generative_adversarial import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)
from keras_regularize.losses.probabilistic.supnotmiwae import supnotmiwae_loss

__all__ = [
    "PatchDiscriminator",
    "UNetGenerator",
    "discriminator_loss",
    "generator_loss",
    "gradient_penalty",
    "r1_penalty",
    "AutoencoderSampler",
    "black_box_cross_entropy",
    "black_box_square_loss",
    "pseudo_huber_schedule",
    "scheduled_pseudo_huber",
    "sequential_cross_entropy",
    "supnotmiwae_loss",
]
