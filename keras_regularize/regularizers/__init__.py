"""`kernel_regularizer=…` and `activity_regularizer=…`: penalties on weights and on activations."""

from keras_regularize.regularizers._attach import attach
from keras_regularize.regularizers.activity.spectral_decoupling import SpectralDecoupling
from keras_regularize.regularizers.diversity.mhe import MHE
from keras_regularize.regularizers.norms.norm_loss import NormLoss
from keras_regularize.regularizers.orthogonality.gor import GOR
from keras_regularize.regularizers.orthogonality.mutual_coherence import MutualCoherence
from keras_regularize.regularizers.orthogonality.soft_orthogonality import (
    DoubleSoftOrthogonality,
    SoftOrthogonality,
)
from keras_regularize.regularizers.orthogonality.srip import SRIP

__all__ = [
    "GOR",
    "MHE",
    "SRIP",
    "DoubleSoftOrthogonality",
    "MutualCoherence",
    "NormLoss",
    "SoftOrthogonality",
    "SpectralDecoupling",
    "attach",
]
