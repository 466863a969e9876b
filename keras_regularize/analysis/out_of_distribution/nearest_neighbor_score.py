"""Distance to the training data themselves."""

from typing import Any

import numpy as np

from keras_regularize.analysis.out_of_distribution._features import as_features
from keras_regularize.validation import check_integer

BLOCK = 2**22  # Distances that are held at once.


class NearestNeighborScore:
    r"""Minus the distance of features to the $k$-th nearest of the training data, all scaled to unit length.

    $$s(f) = -\left\| \tfrac{f}{\|f\|_2} - z_{(k)} \right\|_2,$$

    $z_{(k)}$ being the $k$-th nearest of the features $z_i = f_i / \|f_i\|_2$ in `fit`. Nothing is assumed of how
    features are distributed. Features of zero stay zero.

    Args:
        k: $k$, at least 1. The paper has 50 for the 50 000 images of CIFAR-10 and 1000 for the 1.3 million of
            ImageNet; take less with less data.
        normalize: Whether features are scaled to unit length, which matters much in the paper.

    Raises:
        ValueError: If an argument is out of range, features are no finite matrix, there are fewer than `k`, or it
            is used before `fit`.

    Cost: `predict` the distances to all features of `fit`, in blocks of bounded size.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    features = keras.Model(model.inputs, model.layers[-2].output)
    x = 3.0 + np.random.normal(size=(200, 4))
    score = kr.analysis.NearestNeighborScore(k=10).fit(features.predict(x, verbose=0))
    known, other = x, np.random.normal(size=(100, 4))
    scores = [score.predict(features.predict(data, verbose=0)) for data in (known, other)]
    kr.analysis.out_of_distribution_scores(*scores)
    ```

    Reference: Yiyou Sun, Yifei Ming, Xiaojin Zhu and Yixuan Li, *Out-of-Distribution Detection with Deep Nearest
    Neighbors*, ICML 2022, arXiv:2204.06507.
    """

    def __init__(self, k: int = 50, normalize: bool = True):
        self.k = check_integer("k", k, minimum=1)
        self.normalize = bool(normalize)

    def fit(self, features: Any) -> "NearestNeighborScore":
        """Keeps the features.

        Args:
            features: Features `(n, d)` of the training data, such as those before the last layer; at least `k`.

        Returns:
            The object itself.
        """
        rows = as_features(features)
        if len(rows) < self.k:
            raise ValueError(
                f"Expected at least k={self.k} rows of features. Received: {len(rows)}"
            )
        self._rows = self._scaled(rows)
        return self

    def predict(self, features: Any) -> np.ndarray:
        """The scores.

        Args:
            features: Features `(n, d)` of any data, as in `fit`. Those of the training data have themselves as
                their nearest.

        Returns:
            Scores `(n,)` in float64, at most 0, the higher the more the input is like the training data.
        """
        if not hasattr(self, "_rows"):
            raise ValueError("`NearestNeighborScore` has to be fitted first: call `fit`.")
        known = self._rows
        rows = self._scaled(as_features(features, known.shape[1]))
        centre = known.mean(axis=0)
        squares, size = np.square(known - centre).sum(axis=1), max(BLOCK // len(known), 1)
        distances = np.empty(len(rows))
        for begin in range(0, len(rows), size):
            block = rows[begin : begin + size]
            # Less the square of the row itself, which is the same for all of its neighbours.
            order = squares - 2.0 * (block - centre) @ (known - centre).T
            neighbour = known[np.argpartition(order, self.k - 1, axis=1)[:, self.k - 1]]
            distances[begin : begin + size] = np.linalg.norm(block - neighbour, axis=1)
        return -distances

    def _scaled(self, rows):
        if not self.normalize:
            return rows
        sizes = np.abs(rows).max(axis=1, keepdims=True)
        rows = rows / np.where(sizes > 0, sizes, 1.0)  # Any size, without overflow when squared.
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(norms > 0, norms, 1.0)
