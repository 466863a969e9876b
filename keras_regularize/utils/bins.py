"""Labels of a regression in bins."""

from typing import Any

import numpy as np

from keras_regularize.validation import check_integer


def bin_edges(labels: Any, num_bins: int) -> np.ndarray:
    """Edges of bins of equal width from the least label to the largest.

    Args:
        labels: Labels of a regression, an array of finite numbers.
        num_bins: Number of bins, at least 1.

    Returns:
        `num_bins + 1` ascending numbers.

    Raises:
        ValueError: If there are no labels, all are equal, or one is not finite.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.utils.bin_edges(np.array([0.0, 3.0, 10.0]), 5)  # 0, 2, 4, 6, 8, 10
    ```
    """
    num_bins = check_integer("num_bins", num_bins, minimum=1)
    labels = np.asarray(labels, "float64")
    if not labels.size or not np.isfinite(labels).all() or labels.min() == labels.max():
        raise ValueError(
            "`labels` must be finite numbers, not all equal. Received: "
            + (f"from {labels.min()} to {labels.max()}" if labels.size else "none")
        )
    return np.linspace(labels.min(), labels.max(), num_bins + 1)


def bin_labels(labels: Any, edges: Any) -> np.ndarray:
    """The bin of each label; what is beyond the edges belongs to the first or the last bin.

    Args:
        labels: Labels of a regression, an array of any shape.
        edges: Ascending edges of the bins, one more than bins.

    Returns:
        Numbers from 0 to `len(edges) - 2` in the shape of the labels, 32-bit integers. A label on an edge belongs
        to the bin above.

    Raises:
        ValueError: If edges do not ascend, or a label is NaN.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.utils.bin_labels(np.array([0.5, 3.0, 10.0]), [0, 2, 4, 10])  # 0, 1, 2
    ```
    """
    labels, edges = np.asarray(labels, "float64"), np.asarray(check_edges(edges))
    if np.isnan(labels).any():
        raise ValueError("`labels` must be numbers. Received: NaN among them")
    return (np.searchsorted(edges[1:-1], labels, side="right")).astype("int32")


def check_edges(edges):
    """Edges as a list of floats; raises `ValueError` unless there are two that ascend."""
    values = np.asarray(edges, "float64")
    if values.ndim != 1 or len(values) < 2 or not (np.diff(values) > 0).all():
        raise ValueError(
            f"Edges of bins must be at least two ascending numbers. Received: {edges!r}"
        )
    return values.tolist()
