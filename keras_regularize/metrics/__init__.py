"""Metrics: `model.compile(metrics=[…])`."""

from keras_regularize.metrics.calibration import ExpectedCalibrationError
from keras_regularize.metrics.groups import GroupAccuracy, WorstGroupAccuracy

__all__ = ["ExpectedCalibrationError", "GroupAccuracy", "WorstGroupAccuracy"]
