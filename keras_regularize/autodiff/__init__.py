"""Derivatives and functional models on TensorFlow, JAX and PyTorch.

The one place of the package that names a backend: `_jax.py`, `_tensorflow.py` and `_torch.py` hold the same
few functions, and only the active one is imported.
"""

import keras

if keras.backend.backend() == "jax":
    from keras_regularize.autodiff import _jax as backend
elif keras.backend.backend() == "tensorflow":
    from keras_regularize.autodiff import _tensorflow as backend
elif keras.backend.backend() == "torch":
    from keras_regularize.autodiff import _torch as backend
else:
    raise ImportError(
        "keras_regularize trains on the jax, tensorflow and torch backends of Keras. "
        f"Received: keras.backend.backend()={keras.backend.backend()!r}"
    )

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
