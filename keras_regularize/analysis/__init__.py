"""Look at a trained model."""

from keras_regularize.analysis._effective_learning_rate import effective_learning_rate
from keras_regularize.analysis._fisher_diagonal import fisher_diagonal
from keras_regularize.analysis._fit_power_law import fit_power_law
from keras_regularize.analysis._gaussian_cutoff import gaussian_cutoff
from keras_regularize.analysis._naive_bayes import naive_bayes_head
from keras_regularize.analysis._off_policy_bound import off_policy_bound
from keras_regularize.analysis._out_of_distribution_scores import out_of_distribution_scores
from keras_regularize.analysis._outlier_channels import outlier_channels
from keras_regularize.analysis._private_bag_means import private_bag_means
from keras_regularize.analysis._relative_importance import relative_importance
from keras_regularize.analysis.calibration._brier_decomposition import brier_decomposition
from keras_regularize.analysis.calibration._reliability_diagram import reliability_diagram
from keras_regularize.analysis.calibration.isotonic_calibration import IsotonicCalibration
from keras_regularize.analysis.calibration.quantile_recalibration import QuantileRecalibration
from keras_regularize.analysis.calibration.temperature_scaling import (
    TemperatureScaling,
    fit_temperature,
)
from keras_regularize.analysis.calibration.vector_scaling import VectorScaling
from keras_regularize.analysis.compositional import accnet_bound, f1_norm
from keras_regularize.analysis.conformal._lrqr_objective import lrqr_objective
from keras_regularize.analysis.conformal._split_conformal_quantile import split_conformal_quantile
from keras_regularize.analysis.conformal._weighted_conformal_quantile import (
    weighted_conformal_quantile,
)
from keras_regularize.analysis.conformal.conformal_classifier import ConformalClassifier
from keras_regularize.analysis.conformal.conformal_quantiles import ConformalQuantiles
from keras_regularize.analysis.conformal.conformal_regressor import ConformalRegressor
from keras_regularize.analysis.conformal.likelihood_ratio_quantile import LikelihoodRatioQuantile
from keras_regularize.analysis.distribution_shift import (
    TargetShift,
    covariate_shift_weights,
    target_shift_weights,
)
from keras_regularize.analysis.gradient_norm import gradient_norm_bound, input_gradient_norm
from keras_regularize.analysis.max_margin import margin_violation, sequential_max_margin
from keras_regularize.analysis.representation._alignment_uniformity import alignment_uniformity
from keras_regularize.analysis.representation._hungarian_accuracy import hungarian_accuracy
from keras_regularize.analysis.representation._knn_accuracy import knn_accuracy
from keras_regularize.analysis.representation._linear_probe import linear_probe
from keras_regularize.analysis.robustness import robust_accuracy
from keras_regularize.analysis.self_distillation import (
    kernel_self_distillation,
    optimal_distillation_weight,
    self_distill,
)
from keras_regularize.analysis.spectrum import effective_rank, spectral_norms

__all__ = [
    "ConformalClassifier",
    "ConformalQuantiles",
    "ConformalRegressor",
    "IsotonicCalibration",
    "LikelihoodRatioQuantile",
    "QuantileRecalibration",
    "TargetShift",
    "TemperatureScaling",
    "VectorScaling",
    "accnet_bound",
    "alignment_uniformity",
    "hungarian_accuracy",
    "knn_accuracy",
    "linear_probe",
    "brier_decomposition",
    "covariate_shift_weights",
    "effective_learning_rate",
    "effective_rank",
    "f1_norm",
    "fisher_diagonal",
    "fit_power_law",
    "fit_temperature",
    "gaussian_cutoff",
    "gradient_norm_bound",
    "input_gradient_norm",
    "kernel_self_distillation",
    "lrqr_objective",
    "margin_violation",
    "naive_bayes_head",
    "off_policy_bound",
    "optimal_distillation_weight",
    "out_of_distribution_scores",
    "outlier_channels",
    "private_bag_means",
    "relative_importance",
    "reliability_diagram",
    "robust_accuracy",
    "self_distill",
    "sequential_max_margin",
    "spectral_norms",
    "split_conformal_quantile",
    "target_shift_weights",
    "weighted_conformal_quantile",
]
