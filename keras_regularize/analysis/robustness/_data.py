"""Data in any form that `fit` takes, as arrays."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree


def as_arrays(x: Any, y: Any = None) -> tuple[Any, Any]:
    """`(x, y)` as NumPy arrays: of arrays or tensors, or, without `y`, of a finite dataset of batches."""
    if y is not None:
        return tree.map_structure(_array, (x, y))
    if isinstance(x, keras.utils.PyDataset):
        batches = [x[i] for i in range(len(x))]
    elif (
        hasattr(x, "__iter__") and not hasattr(x, "shape") and not isinstance(x, (dict, list, str))
    ):
        batches = list(x)
    else:
        raise ValueError(
            "Expected labels `y`, or a dataset of batches `(inputs, labels)` as `x`. Received: y=None, "
            f"x of type {type(x).__name__}"
        )
    pairs = [keras.utils.unpack_x_y_sample_weight(batch)[:2] for batch in batches]
    if not pairs or any(labels is None for _, labels in pairs):
        raise ValueError(
            "Expected a dataset of batches `(inputs, labels)`, at least one. Received: "
            f"{len(pairs)} batches, {sum(labels is None for _, labels in pairs)} without labels"
        )
    arrays = [tree.map_structure(_array, pair) for pair in pairs]
    return tree.map_structure(lambda *parts: np.concatenate(parts), *arrays)


def _array(leaf):
    if ops.is_tensor(leaf):
        return ops.convert_to_numpy(leaf)
    return np.asarray(leaf)
