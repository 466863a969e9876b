"""Arguments of an attack that are a number, or a list of one for each channel."""

import keras
import numpy as np
from keras import ops


def per_channel(value, leaf):
    """A number as it is; a list of one per channel in a shape that broadcasts against `leaf` (or an array).

    Channels are the last axis, or the first after the batch where that is Keras' image data format.
    """
    if not isinstance(value, list):
        return value
    rank = len(leaf.shape)
    first = keras.config.image_data_format() == "channels_first" and rank > 2
    axis = 1 if first else rank - 1
    if rank < 2 or leaf.shape[axis] not in (None, len(value)):
        raise ValueError(
            f"Expected inputs with {len(value)} channels (axis {axis}), as many as there are numbers in "
            f"{value}. Received inputs of shape {tuple(leaf.shape)}"
        )
    shape = [len(value) if i == axis else 1 for i in range(rank)]
    if isinstance(leaf, np.ndarray):
        return np.reshape(np.asarray(value, leaf.dtype), shape)
    return ops.reshape(ops.convert_to_tensor(value, leaf.dtype), shape)
