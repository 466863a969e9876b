"""What generative models are trained and judged by."""

from keras_regularize.generative._langevin import langevin
from keras_regularize.generative.audio import MultiScaleDiscriminator, SpectralUNet
from keras_regularize.generative.autoencoder_sampler import AutoencoderSampler
from keras_regularize.generative.black_box import (
    black_box_cross_entropy,
    black_box_square_loss,
    sequential_cross_entropy,
)
from keras_regularize.generative.closed_form import (
    ClosedFormDiffusion,
    closed_form_sample,
    closed_form_score,
    closed_form_velocity,
    nearest_neighbor_score,
)
from keras_regularize.generative.continuation import greedy_continuation
from keras_regularize.generative.image_translation import PatchDiscriminator, UNetGenerator
from keras_regularize.generative.unlearning import adapt_then_unlearn
from keras_regularize.losses.audio.feature_matching import feature_matching_loss
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
from keras_regularize.losses.probabilistic.mixture_vae import mixture_vae_loss
from keras_regularize.losses.probabilistic.supnotmiwae import supnotmiwae_loss
from keras_regularize.losses.probabilistic.vae import (
    balanced_mse_update,
    balanced_vae_loss,
    gaussian_kl,
)
from keras_regularize.losses.text.implicit_unlikelihood import implicit_unlikelihood_loss
from keras_regularize.models.autoencoders.charts import invertible_chart
from keras_regularize.models.diffusion.edm import edm_preconditioning, edm_sigmas
from keras_regularize.models.diffusion.physics_informed import physics_informed_loss
from keras_regularize.models.diffusion.pseudo_huber import (
    pseudo_huber_schedule,
    scheduled_pseudo_huber,
)
from keras_regularize.models.diffusion.schedules import DiffusionSchedule, cosine_beta_schedule
from keras_regularize.models.diffusion.score_matching import denoising_score_matching, sure
from keras_regularize.ops.ngrams import ngram_repeat_mask
from keras_regularize.regularizers.anchors.repulsion import parameter_repulsion

__all__ = [
    "adapt_then_unlearn",
    "condition_lipschitz_penalty",
    "domain_transfer_discriminator_loss",
    "domain_transfer_generator_loss",
    "parameter_repulsion",
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
    "mixture_vae_loss",
    "balanced_mse_update",
    "balanced_vae_loss",
    "gaussian_kl",
    "invertible_chart",
    "ClosedFormDiffusion",
    "DiffusionSchedule",
    "closed_form_sample",
    "closed_form_score",
    "closed_form_velocity",
    "cosine_beta_schedule",
    "denoising_score_matching",
    "edm_preconditioning",
    "edm_sigmas",
    "langevin",
    "nearest_neighbor_score",
    "physics_informed_loss",
    "sure",
    "MultiScaleDiscriminator",
    "SpectralUNet",
    "feature_matching_loss",
    "greedy_continuation",
    "implicit_unlikelihood_loss",
    "ngram_repeat_mask",
]
