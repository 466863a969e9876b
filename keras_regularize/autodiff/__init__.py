"""Derivatives and functional models on TensorFlow, JAX and PyTorch.

The one place of the package that names a backend: `_jax.py`, `_tensorflow.py` and `_torch.py` hold the same
few functions, and only the active one is imported.
"""

import importlib

import keras

if keras.backend.backend() not in ("jax", "tensorflow", "torch"):
    raise ImportError(
        "keras_regularize trains on the jax, tensorflow and torch backends of Keras. "
        f"Received: keras.backend.backend()={keras.backend.backend()!r}"
    )
backend = importlib.import_module(f"keras_regularize.autodiff._{keras.backend.backend()}")

from keras_regularize.autodiff.derivatives import (  # noqa: E402
    grad,
    hvp,
    input_gradient,
    jvp,
    straight_through,
    value_and_grad,
    vjp,
)
from keras_regularize.autodiff.functional import Batch, Forward  # noqa: E402

__all__ = [
    "Batch",
    "Forward",
    "grad",
    "hvp",
    "input_gradient",
    "jvp",
    "straight_through",
    "value_and_grad",
    "vjp",
]
