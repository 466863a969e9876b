"""Classification losses in the cross-entropy family."""

from keras_regularize.losses.classification.comp_sum import CompSum
from keras_regularize.losses.classification.poly import PolyLoss

__all__ = ["CompSum", "PolyLoss"]
