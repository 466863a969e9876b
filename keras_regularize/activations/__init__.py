"""Pass them to `activation=…`, or call them on tensors."""

from keras_regularize.activations._log_barrier import log_barrier_simplex
from keras_regularize.activations._spherical import spherical_softmax, taylor_softmax
from keras_regularize.activations._straight_through_sign import straight_through_sign
from keras_regularize.activations._thresholds import hard_threshold, soft_threshold
from keras_regularize.activations.infinite_depth import (
    Hermite,
    NormalizedSine,
    SingularKernel,
    hermite,
    normalized_sine,
    singular_kernel,
)
from keras_regularize.activations.sparse import Entmax, entmax, sparsemax

__all__ = [
    "Entmax",
    "Hermite",
    "NormalizedSine",
    "SingularKernel",
    "entmax",
    "hard_threshold",
    "hermite",
    "log_barrier_simplex",
    "normalized_sine",
    "singular_kernel",
    "soft_threshold",
    "sparsemax",
    "spherical_softmax",
    "straight_through_sign",
    "taylor_softmax",
]
