"""How large the Hessian of a loss is, and how far those of two data sets are apart."""

import math
from typing import Any

import keras

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis.curvature._hessian_eigenvalues import (
    HessianEigenvalues,
    eigenvalues_of,
)
from keras_regularize.validation import check_integer, check_number


def hessian_norm_bound(
    weight_norm: float, input_norm: float, layers: int, log: bool = False
) -> float:
    r"""A bound on the Hessian of the cross-entropy of a ReLU network, from the norms of its weights.

    $$\|H_i\|_2 \le \sqrt2 \Big(L\,X^2 M^{2L} + M^2\, \frac{M^{2L} - 1}{M^2 - 1}\Big)$$

    for a chain of $L$ dense layers without biases, with ReLUs between them and softmax cross-entropy behind them,
    $\|W_p\|_2 \le M$ and $\|x_i\|_2 \le X$; at $M = 1$ the fraction is $L$. The Hessian is approximated by its
    Gauss-Newton part, `kr.analysis.gauss_newton_vector_product`, in this bound.

    Args:
        weight_norm: $M$, at least 0: the largest spectral norm of a kernel, of `kr.analysis.spectral_norms`.
        input_norm: $X$, at least 0.
        layers: $L$, at least 1.
        log: Whether to give the logarithm of the bound, which is finite where deep networks overflow.

    Returns:
        A float, infinite where it overflows.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.hessian_norm_bound(weight_norm=1.5, input_norm=1.0, layers=2)  # 24.66
    ```

    Reference: Nikita Kiselev and Andrey Grabovoy, *Unraveling the Hessian: A Key to Smooth Convergence in Loss
    Function Landscapes*, 2024, arXiv:2409.11995.
    """
    m = check_number("weight_norm", weight_norm, minimum=0)
    x = check_number("input_norm", input_norm, minimum=0)
    check_integer("layers", layers, minimum=1)
    if m == 0:
        return -math.inf if log else 0.0
    # The fraction is the sum of the first powers of M², which needs no care near M = 1.
    exponents = [2 * (p + 1) * math.log(m) for p in range(layers)]
    if x > 0:
        exponents.append(math.log(layers) + 2 * math.log(x) + 2 * layers * math.log(m))
    largest = max(exponents)
    total = 0.5 * math.log(2) + largest + math.log(sum(math.exp(e - largest) for e in exponents))
    if log:
        return total
    return math.exp(total) if total < 709 else math.inf


def hessian_difference_norm(
    model: keras.Model,
    x_a: Any,
    y_a: Any,
    x_b: Any,
    y_b: Any,
    max_iterations: int = 100,
    tolerance: float = 1e-2,
    seed: int | None = None,
    *,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> float:
    r"""The spectral norm of the difference of the Hessians of a model's mean loss on two data sets.

    $$\|H_a - H_b\|_2 = \max_{\|v\| = 1} |v^\top (H_a - H_b)\, v|$$

    at the model's weights, by the Lanczos iteration: how much the curvature of the loss changes with the data it
    is measured on. Between the Hessian of one sample and the mean over others it is what bounds how the landscape
    moves when a sample is added.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x_a: Inputs of the first data set as arrays, or a dataset of batches as `fit` takes them.
        y_a: Labels of the first; `None` with a dataset.
        x_b: Inputs of the second.
        y_b: Labels of the second.
        max_iterations: Most pairs of Hessian-vector products, at least 1.
        tolerance: Relative residual at which to stop, at least 0.
        seed: Seed of the starting vector.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where inputs are arrays; it changes time and memory only.
        include_regularization: Whether the model's penalties are part of the loss; those of weights cancel.

    Returns:
        A float.

    Raises:
        ValueError: If an argument is out of range, the model is not built, there is no loss or no sample, or
            derivatives are not finite.

    Cost: two Hessian-vector products per iteration.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    print(kr.analysis.hessian_difference_norm(model, x[:59], y[:59], x[59:], y[59:]))
    ```

    Reference: Nikita Kiselev and Andrey Grabovoy, *Unraveling the Hessian: A Key to Smooth Convergence in Loss
    Function Landscapes*, 2024, arXiv:2409.11995.
    """
    check_integer("max_iterations", max_iterations, minimum=1)
    check_number("tolerance", tolerance, minimum=0)
    first, second = (
        Objective(
            "hessian_difference_norm",
            model,
            x,
            y,
            None,
            loss,
            batch_size,
            include_regularization,
        )
        for x, y in ((x_a, y_a), (x_b, y_b))
    )
    found: HessianEigenvalues = eigenvalues_of(
        first,
        lambda v: first.hessian_product(v) - second.hessian_product(v),
        1,
        "magnitude",
        "lanczos",
        max_iterations,
        tolerance,
        seed,
    )
    return float(abs(found.eigenvalues[0]))
