"""Pass them to `compile(metrics=[…])`."""

from keras_regularize.metrics.black_box import BlackBoxSquare
from keras_regularize.metrics.boundary_iou import BoundaryIoU
from keras_regularize.metrics.calibration.aurc import AURC
from keras_regularize.metrics.calibration.brier_score import BrierScore
from keras_regularize.metrics.calibration.expected_calibration_error import ExpectedCalibrationError
from keras_regularize.metrics.calibration.maximum_calibration_error import MaximumCalibrationError
from keras_regularize.metrics.dice_score import DiceScore
from keras_regularize.metrics.frechet_distance import FrechetDistance
from keras_regularize.metrics.groups import GroupAccuracy, WorstGroupAccuracy
from keras_regularize.metrics.hausdorff_distance import HausdorffDistance95
from keras_regularize.metrics.images.absolute_relative_error import AbsoluteRelativeError
from keras_regularize.metrics.images.peak_signal_to_noise_ratio import PeakSignalToNoiseRatio
from keras_regularize.metrics.images.ssim import SSIM
from keras_regularize.metrics.images.threshold_accuracy import ThresholdAccuracy
from keras_regularize.metrics.log_spectral_distance import LogSpectralDistance
from keras_regularize.metrics.panoptic_quality import PanopticQuality
from keras_regularize.metrics.probabilistic_calibration import ProbabilisticCalibrationError
from keras_regularize.metrics.ranking.mean_reciprocal_rank import MeanReciprocalRank
from keras_regularize.metrics.ranking.ndcg import NDCG
from keras_regularize.metrics.ranking.recall_at_k import RecallAtK
from keras_regularize.metrics.selective import Coverage, SelectiveAccuracy
from keras_regularize.metrics.shot_mae import ShotMAE
from keras_regularize.metrics.text.perplexity import Perplexity
from keras_regularize.metrics.text.sequence_repetition import SequenceRepetition
from keras_regularize.metrics.text.token_repetition import TokenRepetition
from keras_regularize.metrics.text.unique_tokens import UniqueTokens

__all__ = [
    "FrechetDistance",
    "AURC",
    "NDCG",
    "SSIM",
    "AbsoluteRelativeError",
    "BlackBoxSquare",
    "BoundaryIoU",
    "BrierScore",
    "Coverage",
    "DiceScore",
    "ExpectedCalibrationError",
    "GroupAccuracy",
    "HausdorffDistance95",
    "MaximumCalibrationError",
    "MeanReciprocalRank",
    "PanopticQuality",
    "PeakSignalToNoiseRatio",
    "ProbabilisticCalibrationError",
    "RecallAtK",
    "SelectiveAccuracy",
    "ShotMAE",
    "ThresholdAccuracy",
    "WorstGroupAccuracy",
    "LogSpectralDistance",
    "Perplexity",
    "SequenceRepetition",
    "TokenRepetition",
    "UniqueTokens",
]
