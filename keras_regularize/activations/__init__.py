"""Pass them to `activation=…`, or call them on tensors."""

from keras_regularize.activations._entmax import Entmax, entmax, sparsemax
from keras_regularize.activations._spherical import spherical_softmax, taylor_softmax

__all__ = ["Entmax", "entmax", "sparsemax", "spherical_softmax", "taylor_softmax"]
