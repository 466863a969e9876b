"""Look at a trained model."""

from keras_regularize.analysis.robustness import robust_accuracy

__all__ = ["robust_accuracy"]
