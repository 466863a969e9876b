"""The mask that Keras hangs on tensors, read and set through its public classes.

It is an attribute of the tensor where there can be one, which tracers of JAX do not allow: Keras has a table then.
"""

import keras
from keras import ops


def keras_mask(x):
    """The mask that a tensor carries, or `None`."""
    mask = getattr(x, "_keras_mask", None)
    if mask is not None or hasattr(x, "__dict__") or not keras.ops.is_tensor(x):
        return mask
    mask = _Read(name="mask", reduction="none")((), x)
    return ops.not_equal(mask, 0) if len(mask.shape) else None


def with_mask(values, mask):
    """Values that carry a mask."""
    return _Masked(name="masked", dtype=values.dtype)([values, mask])


class _Read(keras.losses.Loss):
    """The mask of the predictions as weights of a single value: their shape, or a scalar if there is none."""

    def call(self, y_true, y_pred):
        return ops.ones((), dtype=self.dtype)


class _Masked(keras.layers.Layer):
    supports_masking = True

    def call(self, inputs):
        return inputs[0]

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[1]

    def compute_output_shape(self, input_shape):
        return input_shape[0]
