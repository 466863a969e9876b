"""Losses: `model.compile(loss=…)`."""

from keras_regularize.losses.calibration import MaxSup
from keras_regularize.losses.classification import PolyLoss

__all__ = ["MaxSup", "PolyLoss"]
