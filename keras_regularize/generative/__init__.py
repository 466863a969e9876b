"""What generative models are trained and judged by."""

from keras_regularize.generative._langevin import langevin
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
from keras_regularize.losses.probabilistic.supnotmiwae import supnotmiwae_loss
from keras_regularize.models.diffusion.edm import edm_preconditioning, edm_sigmas
from keras_regularize.models.diffusion.physics_informed import physics_informed_loss
from keras_regularize.models.diffusion.pseudo_huber import (
    pseudo_huber_schedule,
    scheduled_pseudo_huber,
)
from keras_regularize.models.diffusion.schedules import DiffusionSchedule, cosine_beta_schedule
from keras_regularize.models.diffusion.score_matching import denoising_score_matching, sure

__all__ = [
    "AutoencoderSampler",
    "ClosedFormDiffusion",
    "DiffusionSchedule",
    "black_box_cross_entropy",
    "black_box_square_loss",
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
    "pseudo_huber_schedule",
    "scheduled_pseudo_huber",
    "sequential_cross_entropy",
    "supnotmiwae_loss",
    "sure",
]
