"""Classification losses in the cross-entropy family."""

from keras_regularize.losses.classification.poly import PolyLoss

__all__ = ["PolyLoss"]
