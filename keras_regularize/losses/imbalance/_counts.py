"""Class counts: checked, and met with the number of logits."""

import numbers

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend


def check_counts(class_counts):
    """The counts as a list of plain numbers."""
    try:
        counts = [value.item() if hasattr(value, "item") else value for value in class_counts]
    except TypeError:
        counts = None
    if not counts or not all(
        isinstance(value, numbers.Real) and 0 < value < float("inf")  # type: ignore[operator]  # Has `>` only at run time.
        for value in counts
    ):
        raise ValueError(
            "`class_counts` must be a list of positive numbers, the training samples of each class. "
            f"Received: class_counts={class_counts!r}"
        )
    return counts


def check_classes(class_counts, logits):
    """Raises unless there is a count for each column of the logits."""
    if len(class_counts) != logits.shape[-1]:
        raise ValueError(
            f"`class_counts` must have one entry per class. Received {len(class_counts)} counts for "
            f"y_pred with {logits.shape[-1]} classes"
        )


def constants(values):
    """Numbers per class in the dtype of the computation."""
    return np.asarray(values, "float32")


def entries(values, ids):
    """The constants at the labels: by NumPy if it can look, a dozen operations of `ops.take` on torch."""
    known = backend.peek(ids)
    return ops.take(values, ids, axis=0) if known is None else values[known]
