"""Pass them to `compile(metrics=[…])`."""

from keras_regularize.metrics.black_box import BlackBoxSquare
from keras_regularize.metrics.calibration import ExpectedCalibrationError
from keras_regularize.metrics.dice_score import DiceScore
from keras_regularize.metrics.groups import GroupAccuracy, WorstGroupAccuracy
from keras_regularize.metrics.selective import Coverage, SelectiveAccuracy

__all__ = [
    "BlackBoxSquare",
    "Coverage",
    "DiceScore",
    "ExpectedCalibrationError",
    "GroupAccuracy",
    "SelectiveAccuracy",
    "WorstGroupAccuracy",
]
