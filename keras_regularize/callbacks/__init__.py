"""Pass them to `fit(callbacks=[…])`."""

from keras_regularize.callbacks.effective_learning_rate import EffectiveLearningRate
from keras_regularize.callbacks.gamma_schedule import GammaSchedule
from keras_regularize.callbacks.gradient_statistics import GradientStatistics
from keras_regularize.callbacks.incremental_unfolding import IncrementalUnfolding
from keras_regularize.callbacks.kl_annealing import KLAnnealing
from keras_regularize.callbacks.learning_rate_finder import LearningRateFinder
from keras_regularize.callbacks.one_cycle import OneCycle
from keras_regularize.callbacks.pruning import IterativePruning, ThresholdPruning
from keras_regularize.callbacks.relative_importance_pruning import RelativeImportancePruning
from keras_regularize.callbacks.representation_quality import RepresentationQuality
from keras_regularize.callbacks.robustness import RobustAccuracy
from keras_regularize.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
from keras_regularize.callbacks.warm_restarts import WarmRestarts
from keras_regularize.callbacks.weight_trajectory import WeightTrajectory

__all__ = [
    "KLAnnealing",
    "EffectiveLearningRate",
    "IterativePruning",
    "LearningRateFinder",
    "OneCycle",
    "RelativeImportancePruning",
    "RepresentationQuality",
    "RobustAccuracy",
    "StochasticWeightAveraging",
    "ThresholdPruning",
    "WarmRestarts",
    "WeightTrajectory",
    "GradientStatistics",
    "GammaSchedule",
    "IncrementalUnfolding",
]
