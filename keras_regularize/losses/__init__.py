"""Losses: `model.compile(loss=…)`."""

from keras_regularize.losses.calibration import MaxSup
from keras_regularize.losses.classification import PolyLoss
from keras_regularize.losses.semi_supervised import conditional_entropy

__all__ = ["MaxSup", "PolyLoss", "conditional_entropy"]
