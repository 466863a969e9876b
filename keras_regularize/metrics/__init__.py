"""Metrics: `model.compile(metrics=[…])`."""

from keras_regularize.metrics.calibration import ExpectedCalibrationError

__all__ = ["ExpectedCalibrationError"]
