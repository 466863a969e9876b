"""The index of a sample, by which a method finds its row in a table."""

import numpy as np
from keras import ops


def check_index(columns, num_samples, method):
    """Raises unless the column `index` is there and an array of them holds 0 to `num_samples - 1` at most."""
    index = _column(columns, method)
    if isinstance(index, np.ndarray) and index.size:
        low, high = index.min(), index.max()
        if low < 0 or high >= num_samples:
            raise ValueError(
                "The column 'index' must hold indices from 0 to num_samples - 1 = "
                f"{num_samples - 1}. Received indices from {low} to {high}"
            )


def find_rows(columns, num_samples, method):
    """Indices `(batch,)` within a table, and whether they were so before, 1 or 0."""
    index = ops.cast(ops.reshape(_column(columns, method), (-1,)), "int32")
    known = ops.cast((index >= 0) & (index < num_samples), "float32")
    return ops.clip(index, 0, num_samples - 1), known


def _column(columns, method):
    if "index" not in columns:
        raise ValueError(
            f"{method} needs the index of each sample: `y=kr.utils.with_index(y)`. "
            f"Received the columns {sorted(columns)} beside the label"
        )
    return columns["index"]
