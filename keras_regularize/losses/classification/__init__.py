"""Classification losses in the cross-entropy family."""

from keras_regularize.losses.classification._calibrated_derivatives import calibrated_derivatives
from keras_regularize.losses.classification.comp_sum import CompSum
from keras_regularize.losses.classification.entmax import Entmax, Sparsemax
from keras_regularize.losses.classification.poly import PolyLoss
from keras_regularize.losses.classification.poly_focal import PolyFocal
from keras_regularize.losses.classification.z_loss import ZLoss

__all__ = [
    "CompSum",
    "Entmax",
    "PolyFocal",
    "PolyLoss",
    "Sparsemax",
    "ZLoss",
    "calibrated_derivatives",
]
