"""How well a linear classifier does on given features."""

import dataclasses
from typing import Any

import numpy as np

from keras_regularize.analysis.representation._features import (
    as_array,
    check_width,
    features_and_labels,
)
from keras_regularize.validation import check_integer, check_number


@dataclasses.dataclass(frozen=True, eq=False)
class LinearProbe:
    """What `linear_probe` finds.

    Attributes:
        accuracy: Share of right predictions on the test features.
        train_accuracy: The same on the features that it was fitted to.
        kernel: Weights `(dim, classes)` of the features as they are.
        bias: Bias `(classes,)`.
        classes: The label of each column, in ascending order.
    """

    accuracy: float
    train_accuracy: float
    kernel: np.ndarray
    bias: np.ndarray
    classes: np.ndarray

    def predict(self, features: Any) -> np.ndarray:
        """Labels of features `(n, dim)`."""
        x = as_array(features).astype("float64")
        return self.classes[(x.reshape(len(x), -1) @ self.kernel + self.bias).argmax(axis=1)]


def linear_probe(
    features: Any,
    labels: Any,
    test_features: Any,
    test_labels: Any,
    l2: float = 1e-4,
    steps: int = 300,
) -> LinearProbe:
    r"""Fits a linear classifier on given features: the usual measure of what an encoder has learnt.

    Multinomial logistic regression on standardised features,

    $$\min_{W, b}\; -\frac1n \sum_i \log \operatorname{softmax}(W^\top x_i + b)_{y_i} + \frac\lambda2 \|W\|^2,$$

    by accelerated gradient descent with a step from the largest eigenvalue: no learning rate, no randomness.

    Args:
        features: Features `(n, dim)` to fit to, such as `model.predict(x)`; further axes are joined.
        labels: Their labels `(n,)` or `(n, 1)`, or one-hot rows.
        test_features: Other features, to measure accuracy on.
        test_labels: Their labels.
        l2: $\lambda \ge 0$.
        steps: Number of gradient steps, at least 1.

    Returns:
        A frozen dataclass with `accuracy`, `train_accuracy`, `kernel`, `bias`, `classes` and `predict(features)`.

    Raises:
        ValueError: If an argument is out of range, shapes do not fit, or features are not finite.

    Cost: two products of the features with as many columns as classes, per step, in float64.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(100, 8)), np.random.randint(0, 3, size=100)
    kr.analysis.linear_probe(x[:80], y[:80], x[80:], y[80:]).accuracy
    ```

    Reference: Guillaume Alain and Yoshua Bengio, *Understanding intermediate layers using linear classifier
    probes*, 2016, arXiv:1610.01644.
    """
    check_number("l2", l2, minimum=0)
    check_integer("steps", steps, minimum=1)
    x, y = features_and_labels(features, labels)
    test, wanted = features_and_labels(test_features, test_labels, "test ")
    check_width(x, test)
    classes, ids = np.unique(y, return_inverse=True)
    center, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12 * (1.0 + np.abs(center)), scale, np.inf)  # Constant: not used.
    standard = np.concatenate([(x - center) / scale, np.ones((len(x), 1))], axis=1)
    weights = _fitted(standard, np.eye(len(classes))[ids], l2, steps)
    kernel = weights[:-1] / scale[:, None]
    bias = weights[-1] - center @ kernel
    probe = LinearProbe(0.0, 0.0, kernel, bias, classes)
    return dataclasses.replace(
        probe,
        accuracy=float(np.mean(probe.predict(test) == wanted)),
        train_accuracy=float(np.mean(probe.predict(x) == y)),
    )


def _fitted(x, targets, l2, steps):
    """The weights of a logistic regression, the last row being the bias."""
    decay = np.full((x.shape[1], 1), l2)
    decay[-1] = 0.0
    # The Hessian of the softmax is at most one half.
    rate = 1.0 / (0.5 * np.linalg.norm(x, 2) ** 2 / len(x) + l2)
    weights = ahead = np.zeros((x.shape[1], targets.shape[1]))
    momentum = 1.0
    for _ in range(steps):
        z = x @ ahead
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient = x.T @ (p - targets) / len(x) + decay * ahead
        new = ahead - rate * gradient
        if np.sum(gradient * (new - weights)) > 0:  # Too far: start the momentum anew.
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = new + (momentum - 1.0) / following * (new - weights)
        weights, momentum = new, following
        if np.abs(gradient).max() < 1e-7:
            break
    return weights
