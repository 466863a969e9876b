"""Pass them to `compile(metrics=[…])`."""

from keras_regularize.metrics.black_box import BlackBoxSquare
from keras_regularize.metrics.boundary_iou import BoundaryIoU
from keras_regularize.metrics.calibration import ExpectedCalibrationError
from keras_regularize.metrics.dice_score import DiceScore
from keras_regularize.metrics.groups import GroupAccuracy, WorstGroupAccuracy
from keras_regularize.metrics.hausdorff_distance import HausdorffDistance95
from keras_regularize.metrics.panoptic_quality import PanopticQuality
from keras_regularize.metrics.probabilistic_calibration import ProbabilisticCalibrationError
from keras_regularize.metrics.selective import Coverage, SelectiveAccuracy

__all__ = [
    "BlackBoxSquare",
    "BoundaryIoU",
    "Coverage",
    "DiceScore",
    "ExpectedCalibrationError",
    "GroupAccuracy",
    "HausdorffDistance95",
    "PanopticQuality",
    "ProbabilisticCalibrationError",
    "SelectiveAccuracy",
    "WorstGroupAccuracy",
]
