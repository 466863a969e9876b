"""Naive Bayes on given features, as the weights of a linear classifier."""

from typing import Any

import numpy as np

from keras_regularize.layers.heads.class_statistics import (
    class_statistics,
    naive_bayes_classifier,
)
from keras_regularize.validation import check_integer, check_number


def naive_bayes_head(
    features: Any, labels: Any, num_classes: int, epsilon: float = 1e-9
) -> tuple[np.ndarray, np.ndarray]:
    r"""The linear classifier that Gaussian naive Bayes makes of features: a linear probe without training.

    With the means $\mu_k$ and shares $\pi_k$ of the classes and a variance $v_j$ per feature, pooled over the
    classes,

    $$w_{jk} = \frac{\mu_{kj}}{v_j}, \qquad b_k = \log \pi_k - \frac12 \sum_j \frac{\mu_{kj}^2}{v_j}, \qquad
      v_j = \sum_k \pi_k \operatorname{Var}(x_j \mid k) + \epsilon .$$

    Compare a trained linear probe with it, above all where labels are few, or start the probe from it.
    `kr.layers.GaussianNaiveBayes` is the same classifier as a layer, which takes further samples, and is exact
    also for features far from the origin. A class without samples counts as one with the share $10^{-12}$ and the
    mean 0.

    Args:
        features: $x$, an array `(n, features)`.
        labels: Class ids `(n,)` or `(n, 1)`, or rows `(n, num_classes)`, whose largest entry is the label.
        num_classes: Number of classes, at least 2.
        epsilon: $\epsilon \ge 0$, added to the variances; positive if a feature is constant.

    Returns:
        The kernel `(features, num_classes)` and the bias `(num_classes,)`, NumPy arrays in float64.

    Raises:
        ValueError: If an argument is out of its range, or features and labels do not fit.

    Cost: two passes over the features, in float64.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    features, labels = np.random.normal(size=(60, 8)), np.arange(60) % 3
    probe = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    probe.set_weights(kr.analysis.naive_bayes_head(features, labels, num_classes=3))
    ```

    Reference: Chenyu Zheng, Guoqiang Wu, Fan Bao, Yue Cao, Chongxuan Li and Jun Zhu, *Revisiting Discriminative
    vs. Generative Classifiers: Theory and Implications*, ICML 2023, arXiv:2302.02334.
    """
    check_integer("num_classes", num_classes, minimum=2)
    check_number("epsilon", epsilon, minimum=0)
    counts, means, squares = class_statistics(features, labels, num_classes)
    return naive_bayes_classifier(counts, means, squares, epsilon, np)
