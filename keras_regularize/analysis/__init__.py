"""Look at a trained model."""

from keras_regularize.analysis._naive_bayes import naive_bayes_head
from keras_regularize.analysis.gradient_norm import gradient_norm_bound, input_gradient_norm
from keras_regularize.analysis.robustness import robust_accuracy

__all__ = ["gradient_norm_bound", "input_gradient_norm", "naive_bayes_head", "robust_accuracy"]
