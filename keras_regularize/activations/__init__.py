"""Activations: `activation=…`."""

from keras_regularize.activations._entmax import entmax, sparsemax
from keras_regularize.activations._spherical import spherical_softmax, taylor_softmax

__all__ = ["entmax", "sparsemax", "spherical_softmax", "taylor_softmax"]
