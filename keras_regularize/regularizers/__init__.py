"""`kernel_regularizer=…` and `activity_regularizer=…`: penalties on weights and on activations."""

from keras_regularize.regularizers._attach import attach
from keras_regularize.regularizers.activity.spectral_decoupling import SpectralDecoupling
from keras_regularize.regularizers.diversity.mhe import MHE
from keras_regularize.regularizers.norms.norm_loss import NormLoss

__all__ = ["MHE", "NormLoss", "SpectralDecoupling", "attach"]
