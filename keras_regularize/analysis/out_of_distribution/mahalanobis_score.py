"""Distance to the nearest class, in the metric of the classes' common covariance."""

from typing import Any

import numpy as np

from keras_regularize.analysis.out_of_distribution._features import as_features


class MahalanobisScore:
    r"""Minus the squared Mahalanobis distance of features to the nearest class mean.

    $$s(f) = -\min_k\, (f - \mu_k)^\top \Sigma^{+} (f - \mu_k), \qquad
    \Sigma = \frac1n \sum_i (f_i - \mu_{y_i}) (f_i - \mu_{y_i})^\top$$

    with the means $\mu_k$ of the classes and one covariance for all, of features $f_i$ of the training data:
    classes as Gaussians of equal shape. Directions in which features of no class vary have no say, as the
    pseudo-inverse $\Sigma^{+}$ has it.

    Attributes:
        classes_: The classes that occur, in ascending order.
        means_: $\mu_k$, `(classes, d)`.
        covariance_: $\Sigma$, `(d, d)`.

    Raises:
        ValueError: If features are no finite matrix, labels do not fit to them, or it is used before `fit`.

    Cost: `fit` a product of the features with themselves and an eigendecomposition `(d, d)`; `predict` a product
    with a `(d, d)` matrix, and the distances to all classes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    features = keras.Model(model.inputs, model.layers[-2].output)
    x, y = np.random.normal(size=(200, 4)), np.arange(200) % 3
    score = kr.analysis.MahalanobisScore().fit(features.predict(x, verbose=0), y)
    known, other = x, 5.0 * np.random.normal(size=(100, 4))
    scores = [score.predict(features.predict(data, verbose=0)) for data in (known, other)]
    kr.analysis.out_of_distribution_scores(*scores)
    ```

    Reference: Kimin Lee, Kibok Lee, Honglak Lee and Jinwoo Shin, *A Simple Unified Framework for Detecting
    Out-of-Distribution Samples and Adversarial Attacks*, NeurIPS 2018, arXiv:1807.03888. Their combination of
    several layers and their perturbation of the inputs are not part of it.
    """

    classes_: np.ndarray
    means_: np.ndarray
    covariance_: np.ndarray

    def fit(self, features: Any, y: Any) -> "MahalanobisScore":
        """Finds the means and the covariance.

        Args:
            features: Features `(n, d)` of the training data, such as those before the last layer.
            y: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`, of which the largest entry is
                the label.

        Returns:
            The object itself.
        """
        rows, y = as_features(features), np.asarray(y)
        if y.ndim == 2:
            y = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
        if not len(rows) or y.shape != (len(rows),):
            raise ValueError(
                "Expected a label for each row of features (n, d), and at least one. Received: "
                f"features.shape={rows.shape}, y.shape={y.shape}"
            )
        self.classes_, ids = np.unique(y, return_inverse=True)
        hot = (ids[:, None] == np.arange(len(self.classes_))).astype("float64")
        self.means_ = hot.T @ rows / hot.sum(axis=0)[:, None]
        centred = rows - self.means_[ids]
        self.covariance_ = centred.T @ centred / len(rows)
        variances, axes = np.linalg.eigh(self.covariance_)
        # What is left of a direction without variance is rounding, up to the size of the features themselves.
        rounding = np.finfo("float64").eps * len(variances)
        seen = variances > rounding * max(variances[-1], rounding * np.square(rows).sum(1).max())
        self._whitening = axes[:, seen] / np.sqrt(variances[seen])
        return self

    def predict(self, features: Any) -> np.ndarray:
        """The scores.

        Args:
            features: Features `(n, d)` of any data, as in `fit`.

        Returns:
            Scores `(n,)` in float64, at most 0, the higher the more the input is like the training data.
        """
        if not hasattr(self, "means_"):
            raise ValueError("`MahalanobisScore` has to be fitted first: call `fit`.")
        rows = as_features(features, self.means_.shape[1])
        centre = self.means_.mean(axis=0)
        rows, means = (rows - centre) @ self._whitening, (self.means_ - centre) @ self._whitening
        nearest = np.full(len(rows), np.inf)
        for mean in means:
            nearest = np.minimum(nearest, np.square(rows - mean).sum(axis=1))
        return -nearest
