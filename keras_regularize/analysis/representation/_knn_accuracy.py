"""How often the nearest features have the same label."""

from typing import Any

import numpy as np

from keras_regularize.analysis.representation._features import (
    check_width,
    features_and_labels,
    unit_rows,
)
from keras_regularize.validation import check_integer, check_number

#: Rows of similarities that are held at once.
ROWS = 1024


def knn_accuracy(
    features: Any,
    labels: Any,
    test_features: Any = None,
    test_labels: Any = None,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    r"""Accuracy of a vote of the nearest neighbours: what features are good for, without any training.

    The $k$ features with the largest cosine $c$ to a test feature vote for their labels with the weight
    $e^{c / T}$. Without test features each feature is told by the others.

    Args:
        features: Features `(n, dim)` that are known, such as `model.predict(x)`; further axes are joined.
        labels: Their labels `(n,)` or `(n, 1)`, or one-hot rows.
        test_features: Features to tell the labels of, or `None` for those above, each without itself.
        test_labels: Their labels.
        k: Number of neighbours, at least 1; all if there are fewer.
        temperature: $T$, above 0.

    Returns:
        The share of right votes.

    Raises:
        ValueError: If an argument is out of range, shapes do not fit, or features are not finite.

    Cost: a product of all test features with all features, in parts.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(100, 8)), np.random.randint(0, 3, size=100)
    kr.analysis.knn_accuracy(x, y, k=5)
    ```

    Reference: Zhirong Wu, Yuanjun Xiong, Stella X. Yu and Dahua Lin, *Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination*, CVPR 2018, arXiv:1805.01978.
    """
    check_integer("k", k, minimum=1)
    check_number("temperature", temperature, above=0)
    x, y = features_and_labels(features, labels)
    alone = test_features is None
    if alone and test_labels is not None:
        raise ValueError("`test_labels` need `test_features`. Received: test_features=None")
    if alone and len(x) < 2:
        raise ValueError("Without test features at least two samples are needed. Received: 1")
    test, wanted = (x, y) if alone else features_and_labels(test_features, test_labels, "test ")
    check_width(x, test)
    x, test = unit_rows(x), unit_rows(test)
    classes, ids = np.unique(y, return_inverse=True)
    k = min(k, len(x) - alone)
    right = 0
    for start in range(0, len(test), ROWS):
        rows = test[start : start + ROWS]
        cosines = rows @ x.T
        if alone:
            cosines[np.arange(len(rows)), start + np.arange(len(rows))] = -np.inf
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.exp((found - found.max(axis=1, keepdims=True)) / temperature)
        votes = np.zeros((len(rows), len(classes)))
        np.add.at(votes, (np.arange(len(rows))[:, None], ids[nearest]), weights)
        right += np.sum(classes[votes.argmax(axis=1)] == wanted[start : start + ROWS])
    return float(right / len(test))
