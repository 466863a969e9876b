"""Classifiers that networks become as they grow wide and deep."""

import math
from typing import Any, NamedTuple

import numpy as np

from keras_regularize.validation import check_integer, check_number


class InfiniteWidthKernels(NamedTuple):
    """What `infinite_width_kernels` computes.

    Attributes:
        nngp: The kernel of the Gaussian process of a network at its start, `(n, m)`.
        ntk: The neural tangent kernel, of a network that is trained, `(n, m)`.
    """

    nngp: np.ndarray
    ntk: np.ndarray


def infinite_width_kernels(
    x1: Any, x2: Any = None, coefficients: Any = (0.0, 1.0), depth: int = 1
) -> InfiniteWidthKernels:
    r"""The kernels of an infinitely wide dense network with a given activation.

    For an activation $\phi = \sum_k a_k\, \mathrm{He}_k / \sqrt{k!}$ of normalized Hermite polynomials the dual
    activation is $c(z) = \sum_k a_k^2 z^k$, and on inputs of norm 1, with $z_0 = K_0 = \langle x, x' \rangle$,

    $$z_{l+1} = c(z_l),\qquad K_{l+1} = c(z_l) + K_l\, c'(z_l).$$

    Args:
        x1: Inputs `(n, features)`; they are scaled to norm 1.
        x2: Others, `(m, features)`; by default those of `x1`.
        coefficients: $a_0, a_1, \dots$, whose squares sum to 1.
        depth: Number of hidden layers, at least 1.

    Returns:
        A named tuple of `nngp` and `ntk`, float64 arrays `(n, m)`.

    Raises:
        ValueError: If shapes do not fit, an input is 0, or the squares do not sum to 1.

    Cost: a matrix product, and elementwise operations for each layer.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(10, 3))
    coefficients = [0.0, 0.5, 0.5**0.5, 0.5]
    nngp, ntk = kr.analysis.infinite_width_kernels(x, coefficients=coefficients, depth=5)
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """
    check_integer("depth", depth, minimum=1)
    dual = _dual(coefficients)
    first = _unit("x1", x1)
    second = first if x2 is None else _unit("x2", x2)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"`x1` and `x2` must have as many features. Received shapes {first.shape} and {second.shape}"
        )
    slope = dual.deriv()
    z = np.clip(first @ second.T, -1.0, 1.0)
    # Rounding of the product of equal rows grows with each layer; their difference is exactly 0.
    for i in np.flatnonzero((z > 1 - 1e-8).any(axis=1)):
        close = np.flatnonzero(z[i] > 1 - 1e-8)
        z[i, close] = 1.0 - np.sum((first[i] - second[close]) ** 2, axis=1) / 2
    ntk = z
    for _ in range(depth):
        ntk = dual(z) + ntk * slope(z)
        z = np.clip(dual(z), -1.0, 1.0)
    return InfiniteWidthKernels(z, ntk)


def hilbert_kernel_predict(x_train: Any, y_train: Any, x_test: Any, dimension: float) -> np.ndarray:
    r"""Predictions of the Hilbert kernel estimate: weights that are singular at the training points.

    $$\hat y(x) = \frac{\sum_i \|x - x_i\|^{-d}\, y_i}{\sum_i \|x - x_i\|^{-d}}$$

    It interpolates the training data and is consistent all the same, for data of dimension $d$; wide and deep
    networks with the right activation become such an estimate. At a training point it is its label, or the mean of
    those of all that are there.

    Args:
        x_train: Training inputs, `(n, features)`.
        y_train: Their labels or one-hot rows, `(n,)` or `(n, classes)`.
        x_test: Inputs to predict for, `(m, features)`.
        dimension: $d$, positive: the dimension of the data.

    Returns:
        A float64 array `(m,)` or `(m, classes)`; of labels -1 and 1 the sign is the class.

    Raises:
        ValueError: If shapes do not fit or the dimension is not positive.

    Cost: all distances, a row of them at a time.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(50, 2))
    scores = kr.analysis.hilbert_kernel_predict(x, np.sign(x[:, 0]), [[0.5, 0.0]], dimension=2)
    ```

    Reference: Luc Devroye, Laszlo Györfi and Adam Krzyżak, *The Hilbert Kernel Regression Estimate*, Journal of
    Multivariate Analysis 1998; of networks, Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler,
    *Wide and Deep Neural Networks Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """
    check_number("dimension", dimension, above=0)
    train, test = np.asarray(x_train, "float64"), np.asarray(x_test, "float64")
    y = np.asarray(y_train, "float64")
    if (
        train.ndim != 2
        or test.ndim != 2
        or train.shape[1] != test.shape[1]
        or not len(train)
        or y.shape[:1] != train.shape[:1]
    ):
        raise ValueError(
            "Expected x_train (n, features), y_train (n,) or (n, classes), and x_test (m, features), with n at "
            f"least 1. Received shapes {train.shape}, {y.shape} and {test.shape}"
        )
    result = np.empty((len(test), *y.shape[1:]))
    for i, point in enumerate(test):
        distances = np.linalg.norm(train - point, axis=1)
        nearest = distances.min()
        # Relative to the nearest, which has weight 1 whatever the power.
        weights = (distances == 0) * 1.0 if nearest == 0 else (nearest / distances) ** dimension
        result[i] = weights @ y / weights.sum()
    return result


class InfiniteDepthClassifier(NamedTuple):
    """What `infinite_depth_classifier` finds.

    Attributes:
        kind: `"singular_kernel"`, `"nearest_neighbor"` or `"majority_vote"`.
        exponent: Of the weights of training points, `distance ** -exponent`: infinite for the nearest neighbor,
            0 for a vote of all.
    """

    kind: str
    exponent: float


def infinite_depth_classifier(coefficients: Any) -> InfiniteDepthClassifier:
    r"""Which classifier an infinitely wide network becomes as it grows deep.

    With the dual activation $c(z) = \sum_k a_k^2 z^k$ of `kr.analysis.infinite_width_kernels`, a network that is
    trained becomes

    | activation | classifier |
    |---|---|
    | $c(0) > 0$, as of ReLU | the majority of all training labels |
    | $c(0) = 0,\ c'(0) = 0$ | the nearest neighbor |
    | $c(0) = 0,\ 0 < c'(0) < 1$ | weights $\|x - x_i\|^{-\alpha}$, $\alpha = -2 \log c'(0) / \log c'(1)$ |

    Only the last, with $\alpha$ the dimension of the data, tends to the error of Bayes with the number of training
    points (`kr.activations.singular_kernel`).

    Args:
        coefficients: $a_0, a_1, \dots$ of normalized Hermite polynomials, whose squares sum to 1.

    Returns:
        A named tuple of the `kind`, `"singular_kernel"`, `"nearest_neighbor"` or `"majority_vote"`, and the
        `exponent` $\alpha$, which is infinite for the nearest neighbor and 0 for the majority.

    Raises:
        ValueError: If the squares do not sum to 1, or the activation is linear, with which depth changes nothing.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.infinite_depth_classifier([0.0, 0.5, 0.5**0.5, 0.5])  # singular_kernel, 4.0
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """
    dual = _dual(coefficients)
    slope = dual.deriv()
    if dual(0.0) > 0:
        return InfiniteDepthClassifier("majority_vote", 0.0)
    if slope(0.0) == 0:
        return InfiniteDepthClassifier("nearest_neighbor", math.inf)
    if slope(1.0) == 1:
        raise ValueError(
            "The activation must not be linear, with which depth changes nothing. Received: "
            f"coefficients={coefficients!r}"
        )
    exponent = -2 * math.log(slope(0.0)) / math.log(slope(1.0))
    return InfiniteDepthClassifier("singular_kernel", exponent)


def _dual(coefficients):
    """The dual activation."""
    squares = np.asarray(coefficients, "float64") ** 2
    if squares.ndim != 1 or not abs(squares.sum() - 1) < 1e-4:
        raise ValueError(
            "The squares of `coefficients` must sum to 1, which keeps the variance from layer to layer. Received: "
            f"coefficients={coefficients!r}"
        )
    return np.polynomial.Polynomial(squares / squares.sum())


def _unit(name, x):
    rows = np.asarray(x, "float64")
    if rows.ndim != 2:
        raise ValueError(f"`{name}` must be rows of features. Received: shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ValueError(f"`{name}` must have no row of zeros, which has no direction.")
    return rows / lengths
