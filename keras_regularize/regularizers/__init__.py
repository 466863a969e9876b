"""`kernel_regularizer=…` and `activity_regularizer=…`: penalties on weights and on activations."""

from keras_regularize.regularizers._attach import attach
from keras_regularize.regularizers.activity.spectral_decoupling import SpectralDecoupling
from keras_regularize.regularizers.cauchy_schwarz.alphabets import (
    BinaryCauchySchwarz,
    OneSidedBinaryCauchySchwarz,
    TernaryCauchySchwarz,
)
from keras_regularize.regularizers.cauchy_schwarz.cauchy_schwarz import CauchySchwarz
from keras_regularize.regularizers.cauchy_schwarz.eigenvector import EigenvectorCauchySchwarz
from keras_regularize.regularizers.cauchy_schwarz.multi_level import MultiLevelCauchySchwarz
from keras_regularize.regularizers.cauchy_schwarz.orthogonal import OrthogonalCauchySchwarz
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
    "BinaryCauchySchwarz",
    "CauchySchwarz",
    "DoubleSoftOrthogonality",
    "EigenvectorCauchySchwarz",
    "MultiLevelCauchySchwarz",
    "MutualCoherence",
    "NormLoss",
    "OneSidedBinaryCauchySchwarz",
    "OrthogonalCauchySchwarz",
    "SoftOrthogonality",
    "SpectralDecoupling",
    "TernaryCauchySchwarz",
    "attach",
]
