"""Look at a trained model."""

from keras_regularize.analysis._gaussian_cutoff import gaussian_cutoff
from keras_regularize.analysis._naive_bayes import naive_bayes_head
from keras_regularize.analysis._off_policy_bound import off_policy_bound
from keras_regularize.analysis._private_bag_means import private_bag_means
from keras_regularize.analysis.gradient_norm import gradient_norm_bound, input_gradient_norm
from keras_regularize.analysis.robustness import robust_accuracy
from keras_regularize.analysis.self_distillation import (
    kernel_self_distillation,
    optimal_distillation_weight,
    self_distill,
)

__all__ = [
    "gaussian_cutoff",
    "gradient_norm_bound",
    "input_gradient_norm",
    "kernel_self_distillation",
    "naive_bayes_head",
    "off_policy_bound",
    "optimal_distillation_weight",
    "private_bag_means",
    "robust_accuracy",
    "self_distill",
]
