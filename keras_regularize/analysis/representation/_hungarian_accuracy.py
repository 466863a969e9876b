"""Accuracy of clusters, whatever their numbers."""

from typing import Any

import numpy as np

from keras_regularize.analysis.representation._features import as_array


def hungarian_accuracy(y_true: Any, y_pred: Any) -> float:
    r"""Accuracy of clusters under the best assignment of clusters to classes.

    $$\max_\pi \frac1n \sum_i \big[\pi(c_i) = y_i\big]$$

    over assignments $\pi$ of each cluster to another class, which the Hungarian algorithm finds.

    Args:
        y_true: Class ids `(n,)` or `(n, 1)`, or one-hot rows.
        y_pred: Cluster ids `(n,)`, or probabilities or logits `(n, clusters)`, whose largest entry counts. There
            may be more or fewer clusters than classes.

    Returns:
        A float from 0 to 1.

    Raises:
        ValueError: If the shapes do not fit, or there is no sample.
        ImportError: If SciPy is not installed.

    Cost: a pass over the samples, and $O(k^3)$ for $k$ clusters or classes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.hungarian_accuracy(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 7]))  # 0.75
    ```

    Reference: Harold W. Kuhn, *The Hungarian method for the assignment problem*, Naval Research Logistics
    Quarterly 1955.
    """
    classes, clusters = _ids(y_true), _ids(y_pred)
    if classes.ndim != 1 or classes.shape != clusters.shape or not len(classes):
        raise ValueError(
            "Expected a class and a cluster for each of at least one sample. "
            f"Received: shapes {as_array(y_true).shape} and {as_array(y_pred).shape}"
        )
    _, rows = np.unique(clusters, return_inverse=True)
    _, columns = np.unique(classes, return_inverse=True)
    size = max(rows.max(), columns.max()) + 1
    counts = np.zeros((size, size))
    np.add.at(counts, (rows, columns), 1)
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("`hungarian_accuracy` needs SciPy: `pip install scipy`") from error
    return float(counts[linear_sum_assignment(-counts)].sum() / len(classes))


def _ids(y):
    y = as_array(y)
    if y.ndim != 2:
        return y
    return y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
