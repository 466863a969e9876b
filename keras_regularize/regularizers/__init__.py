"""Pass them to `kernel_regularizer=…` or `activity_regularizer=…`, or set them on a built model by `attach`."""

from keras_regularize.regularizers._attach import attach
from keras_regularize.regularizers.activation_kurtosis import ActivationKurtosis
from keras_regularize.regularizers.anchors.ewc import EWC
from keras_regularize.regularizers.anchors.l2_to_reference import L2ToReference
from keras_regularize.regularizers.anchors.repulsion import Repulsion
from keras_regularize.regularizers.anchors.wasserstein import Wasserstein
from keras_regularize.regularizers.bures_wasserstein import BuresWasserstein
from keras_regularize.regularizers.cauchy_schwarz.alphabets import (
    BinaryCauchySchwarz,
    OneSidedBinaryCauchySchwarz,
    TernaryCauchySchwarz,
)
from keras_regularize.regularizers.cauchy_schwarz.cauchy_schwarz import CauchySchwarz
from keras_regularize.regularizers.cauchy_schwarz.eigenvector import EigenvectorCauchySchwarz
from keras_regularize.regularizers.cauchy_schwarz.multi_level import MultiLevelCauchySchwarz
from keras_regularize.regularizers.cauchy_schwarz.orthogonal import OrthogonalCauchySchwarz
from keras_regularize.regularizers.features.dispersive import Dispersive
from keras_regularize.regularizers.features.ko_leo import KoLeo
from keras_regularize.regularizers.features.ld_reg import LDReg
from keras_regularize.regularizers.features.treg import TREG
from keras_regularize.regularizers.features.uniformity import Uniformity
from keras_regularize.regularizers.hyper_sparse import HyperSparse
from keras_regularize.regularizers.mhe import MHE
from keras_regularize.regularizers.norm_loss import NormLoss
from keras_regularize.regularizers.orthogonality.gor import GOR
from keras_regularize.regularizers.orthogonality.mutual_coherence import MutualCoherence
from keras_regularize.regularizers.orthogonality.soft_orthogonality import (
    DoubleSoftOrthogonality,
    SoftOrthogonality,
)
from keras_regularize.regularizers.orthogonality.srip import SRIP
from keras_regularize.regularizers.spectral import Spectral
from keras_regularize.regularizers.spectral_decoupling import SpectralDecoupling
from keras_regularize.regularizers.total_variation import TotalVariation
from keras_regularize.regularizers.weight_distribution import WeightDistribution

__all__ = [
    "BuresWasserstein",
    "EWC",
    "GOR",
    "MHE",
    "SRIP",
    "TREG",
    "ActivationKurtosis",
    "BinaryCauchySchwarz",
    "CauchySchwarz",
    "Dispersive",
    "DoubleSoftOrthogonality",
    "EigenvectorCauchySchwarz",
    "HyperSparse",
    "KoLeo",
    "LDReg",
    "L2ToReference",
    "MultiLevelCauchySchwarz",
    "MutualCoherence",
    "NormLoss",
    "OneSidedBinaryCauchySchwarz",
    "OrthogonalCauchySchwarz",
    "Repulsion",
    "SoftOrthogonality",
    "Spectral",
    "SpectralDecoupling",
    "TernaryCauchySchwarz",
    "TotalVariation",
    "Uniformity",
    "Wasserstein",
    "WeightDistribution",
    "attach",
]
