"""Look at a trained model."""

from keras_regularize.analysis._effective_learning_rate import effective_learning_rate
from keras_regularize.analysis._fisher_diagonal import fisher_diagonal
from keras_regularize.analysis._fit_power_law import fit_power_law
from keras_regularize.analysis._outlier_channels import outlier_channels
from keras_regularize.analysis._relative_importance import relative_importance
from keras_regularize.analysis.compositional import accnet_bound, f1_norm
from keras_regularize.analysis.gradient_norm import gradient_norm_bound, input_gradient_norm
from keras_regularize.analysis.max_margin import margin_violation, sequential_max_margin
from keras_regularize.analysis.robustness import robust_accuracy
from keras_regularize.analysis.spectrum import effective_rank, spectral_norms

__all__ = [
    "accnet_bound",
    "effective_learning_rate",
    "effective_rank",
    "f1_norm",
    "fisher_diagonal",
    "fit_power_law",
    "gradient_norm_bound",
    "input_gradient_norm",
    "margin_violation",
    "outlier_channels",
    "relative_importance",
    "robust_accuracy",
    "sequential_max_margin",
    "spectral_norms",
]
