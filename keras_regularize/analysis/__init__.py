"""Look at a trained model."""

from keras_regularize.analysis._bures_critical_values import bures_critical_values
from keras_regularize.analysis._contrastive_rademacher import contrastive_rademacher
from keras_regularize.analysis._effective_learning_rate import effective_learning_rate
from keras_regularize.analysis._fisher_diagonal import fisher_diagonal
from keras_regularize.analysis._fit_power_law import fit_power_law
from keras_regularize.analysis._gaussian_cutoff import gaussian_cutoff
from keras_regularize.analysis._local_intrinsic_dimension import local_intrinsic_dimension
from keras_regularize.analysis._moe_lasso_bound import moe_lasso_bound
from keras_regularize.analysis._naive_bayes import naive_bayes_head
from keras_regularize.analysis._off_policy_bound import off_policy_bound
from keras_regularize.analysis._outlier_channels import outlier_channels
from keras_regularize.analysis._private_bag_means import private_bag_means
from keras_regularize.analysis._relative_importance import relative_importance
from keras_regularize.analysis._sufficiency_gap import sufficiency_gap
from keras_regularize.analysis.autoencoders import (
    autoencoder_log_density_difference,
    autoencoder_score,
    jacobian_nuclear_norm,
    sign_autoencoder_limit,
    sign_autoencoder_risk,
)
from keras_regularize.analysis.bandits import LogBarrierFTRL, magnitude_reduced_losses
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
from keras_regularize.analysis.curvature._gradient_statistics import gradient_statistics
from keras_regularize.analysis.curvature._hessian_eigenvalues import hessian_eigenvalues
from keras_regularize.analysis.curvature._hessian_trace import hessian_trace
from keras_regularize.analysis.curvature._sharpness import sharpness
from keras_regularize.analysis.curvature.hessian_norms import (
    hessian_difference_norm,
    hessian_norm_bound,
)
from keras_regularize.analysis.curvature.products import (
    gauss_newton_vector_product,
    hessian_matrix,
    hessian_vector_product,
)
from keras_regularize.analysis.curvature.spectral_density import (
    hessian_spectral_density,
    smoothed_density,
)
from keras_regularize.analysis.distribution_shift import (
    TargetShift,
    covariate_shift_weights,
    target_shift_weights,
)
from keras_regularize.analysis.folding import folding_measure, global_folding, space_folding
from keras_regularize.analysis.gradient_norm import gradient_norm_bound, input_gradient_norm
from keras_regularize.analysis.kernels._empirical_ntk import empirical_ntk
from keras_regularize.analysis.kernels.infinite_width import (
    hilbert_kernel_predict,
    infinite_depth_classifier,
    infinite_width_kernels,
)
from keras_regularize.analysis.kernels.kernel_classifier import KernelClassifier
from keras_regularize.analysis.landscape._curvature_surface import curvature_surface
from keras_regularize.analysis.landscape._interpolate import interpolate
from keras_regularize.analysis.landscape._loss_surface import LossSurface, loss_surface
from keras_regularize.analysis.landscape._pca_trajectory import pca_trajectory
from keras_regularize.analysis.landscape.convergence import (
    landscape_convergence,
    loss_difference_curve,
    sample_size_for_tolerance,
)
from keras_regularize.analysis.landscape.directions import (
    normalize_direction,
    project,
    random_direction,
)
from keras_regularize.analysis.many_tasks._minimax_linear import (
    minimax_linear_regret,
    minimax_linear_representation,
    randomized_linear_representation,
)
from keras_regularize.analysis.margins import lipschitz_bounds, margin_statistics
from keras_regularize.analysis.max_margin import margin_violation, sequential_max_margin
from keras_regularize.analysis.model_complexity import (
    effective_model_complexity,
    label_capacity_gap,
)
from keras_regularize.analysis.out_of_distribution._out_of_distribution_scores import (
    out_of_distribution_scores,
)
from keras_regularize.analysis.out_of_distribution._scores_of_outputs import (
    energy_score,
    entropy_score,
    max_softmax_score,
)
from keras_regularize.analysis.out_of_distribution.mahalanobis_score import MahalanobisScore
from keras_regularize.analysis.out_of_distribution.nearest_neighbor_score import (
    NearestNeighborScore,
)
from keras_regularize.analysis.random_features import (
    activation_coefficients,
    deep_random_features_error,
    linearized_feature_covariance,
    ridge_test_error,
)
from keras_regularize.analysis.representation._alignment_uniformity import alignment_uniformity
from keras_regularize.analysis.representation._hungarian_accuracy import hungarian_accuracy
from keras_regularize.analysis.representation._knn_accuracy import knn_accuracy
from keras_regularize.analysis.representation._linear_probe import linear_probe
from keras_regularize.analysis.representers import (
    factorization_representers,
    l1_representers,
    l2_representers,
)
from keras_regularize.analysis.robustness._auto_attack_accuracy import auto_attack_accuracy
from keras_regularize.analysis.robustness._corrupt import CORRUPTIONS, corrupt
from keras_regularize.analysis.robustness._robust_accuracy import robust_accuracy
from keras_regularize.analysis.robustness._robustness_report import robustness_report
from keras_regularize.analysis.self_distillation import (
    kernel_self_distillation,
    optimal_distillation_weight,
    self_distill,
)
from keras_regularize.analysis.spectrum import effective_rank, spectral_norms

__all__ = [
    "bures_critical_values",
    "CORRUPTIONS",
    "ConformalClassifier",
    "ConformalQuantiles",
    "ConformalRegressor",
    "IsotonicCalibration",
    "KernelClassifier",
    "LikelihoodRatioQuantile",
    "LogBarrierFTRL",
    "LossSurface",
    "MahalanobisScore",
    "NearestNeighborScore",
    "QuantileRecalibration",
    "TargetShift",
    "TemperatureScaling",
    "VectorScaling",
    "accnet_bound",
    "activation_coefficients",
    "auto_attack_accuracy",
    "alignment_uniformity",
    "hungarian_accuracy",
    "knn_accuracy",
    "linear_probe",
    "brier_decomposition",
    "corrupt",
    "autoencoder_log_density_difference",
    "autoencoder_score",
    "contrastive_rademacher",
    "covariate_shift_weights",
    "curvature_surface",
    "deep_random_features_error",
    "effective_learning_rate",
    "effective_model_complexity",
    "effective_rank",
    "label_capacity_gap",
    "empirical_ntk",
    "energy_score",
    "entropy_score",
    "f1_norm",
    "factorization_representers",
    "fisher_diagonal",
    "fit_power_law",
    "fit_temperature",
    "gauss_newton_vector_product",
    "folding_measure",
    "gaussian_cutoff",
    "global_folding",
    "gradient_norm_bound",
    "gradient_statistics",
    "hessian_difference_norm",
    "hessian_eigenvalues",
    "hessian_matrix",
    "hessian_norm_bound",
    "hessian_spectral_density",
    "hessian_trace",
    "hessian_vector_product",
    "hilbert_kernel_predict",
    "infinite_depth_classifier",
    "infinite_width_kernels",
    "input_gradient_norm",
    "interpolate",
    "jacobian_nuclear_norm",
    "kernel_self_distillation",
    "local_intrinsic_dimension",
    "l1_representers",
    "l2_representers",
    "landscape_convergence",
    "loss_difference_curve",
    "loss_surface",
    "linearized_feature_covariance",
    "lipschitz_bounds",
    "lrqr_objective",
    "magnitude_reduced_losses",
    "margin_statistics",
    "margin_violation",
    "minimax_linear_regret",
    "minimax_linear_representation",
    "max_softmax_score",
    "moe_lasso_bound",
    "naive_bayes_head",
    "normalize_direction",
    "off_policy_bound",
    "optimal_distillation_weight",
    "out_of_distribution_scores",
    "outlier_channels",
    "pca_trajectory",
    "private_bag_means",
    "randomized_linear_representation",
    "project",
    "random_direction",
    "relative_importance",
    "reliability_diagram",
    "ridge_test_error",
    "robust_accuracy",
    "sample_size_for_tolerance",
    "robustness_report",
    "self_distill",
    "sequential_max_margin",
    "sharpness",
    "smoothed_density",
    "sign_autoencoder_limit",
    "sign_autoencoder_risk",
    "space_folding",
    "spectral_norms",
    "split_conformal_quantile",
    "sufficiency_gap",
    "target_shift_weights",
    "weighted_conformal_quantile",
]
