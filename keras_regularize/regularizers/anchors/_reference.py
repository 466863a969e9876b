"""Arrays that weights are compared with."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.numerics import upcast


def checked_array(name: str, values: Any) -> np.ndarray:
    """The float32 array of a tensor, variable or nested list; its `tolist` goes into the config."""
    if not isinstance(values, (list, tuple, float, int)):
        values = ops.convert_to_numpy(values)
    try:
        array = np.asarray(values, "float32")
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be an array of numbers. Received: {values!r}") from None
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: entries that are infinite or NaN")
    return array


def difference(weight: Any, reference: np.ndarray) -> Any:
    """`w - reference`, in at least float32; raises if the shapes are not the same."""
    weight = upcast(weight)
    if tuple(weight.shape) != reference.shape:
        raise ValueError(
            f"`reference` must have the shape of the weight, {tuple(weight.shape)}. "
            f"Received: reference of shape {reference.shape}"
        )
    return weight - ops.convert_to_tensor(reference, dtype=weight.dtype)
