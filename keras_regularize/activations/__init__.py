"""Pass them to `activation=…`, or call them on tensors."""

from keras_regularize.activations._log_barrier import log_barrier_simplex
from keras_regularize.activations._spherical import spherical_softmax, taylor_softmax
from keras_regularize.activations._straight_through_sign import straight_through_sign
from keras_regularize.activations.sparse import Entmax, entmax, sparsemax

__all__ = [
    "Entmax",
    "entmax",
    "log_barrier_simplex",
    "sparsemax",
    "spherical_softmax",
    "straight_through_sign",
    "taylor_softmax",
]
