"""Softmax relatives with polynomials in the place of the exponential."""

from typing import Any

from keras import ops

from keras_regularize.numerics import as_float, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
def taylor_softmax(x: Any, axis: int = -1, order: int = 2) -> Any:
    r"""Softmax with the exponential replaced by its Taylor polynomial, which has lighter tails.

    $$p_i = \frac{f(x_i)}{\sum_j f(x_j)}, \qquad f(x) = \sum_{n=0}^{\text{order}} \frac{x^n}{n!}.$$

    For an even order $f$ is positive everywhere, so all probabilities are; they are never as extreme as
    those of softmax, and large negative scores are large again. For order 2 the log-loss belongs to the
    spherical family. Train it with `keras.losses.SparseCategoricalCrossentropy()` on these probabilities. The
    result changes when a constant is added to all scores.

    Args:
        x: Scores, a float tensor of any shape.
        axis: Axis along which the result sums to 1.
        order: Degree of the polynomial, a positive even integer. With orders above 8, scores of 1e4 overflow
            float32.

    Returns:
        Probabilities with the shape and dtype of `x`. Half-precision input is computed in float32.

    Raises:
        ValueError: If `order` is not a positive even integer.

    Cost: one or two passes over the scores per order.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    p = kr.activations.taylor_softmax(np.array([[1.0, 0.0]], "float32"))  # 2.5 / 3.5, 1 / 3.5
    layer = keras.layers.Dense(10, activation=kr.activations.taylor_softmax)
    ```

    Reference: Alexandre de Brébisson and Pascal Vincent, *An Exploration of Softmax Alternatives Belonging to
    the Spherical Loss Family*, ICLR 2016, arXiv:1511.05042.
    """
    check_integer("order", order, minimum=2)
    if order % 2:
        raise ValueError(f"`order` must be even. Received: order={order!r}")
    x = as_float(x)
    scores = upcast(x)
    f = 1.0 + scores / order
    for n in range(order - 1, 0, -1):
        f = 1.0 + (scores / n) * f
    return ops.cast(f / ops.sum(f, axis=axis, keepdims=True), x.dtype)


@export
def spherical_softmax(x: Any, axis: int = -1, epsilon: float = 1e-7) -> Any:
    r"""Probabilities in proportion to squared scores.

    $$p_i = \frac{x_i^2 + \epsilon}{\sum_j (x_j^2 + \epsilon)}.$$

    The result depends on the size of the scores relative to each other alone, not on their signs or common
    scale, and its log-loss belongs to the spherical family. Train it with
    `keras.losses.SparseCategoricalCrossentropy()` on these probabilities. Equal probabilities, with
    gradient 0, come out where all scores are 0.

    Args:
        x: Scores, a float tensor of any shape.
        axis: Axis along which the result sums to 1.
        epsilon: $\epsilon > 0$, keeps every probability positive.

    Returns:
        Probabilities with the shape and dtype of `x`. Half-precision input is computed in float32.

    Raises:
        ValueError: If `epsilon` is not positive.

    Cost: three passes over the scores.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    p = kr.activations.spherical_softmax(np.array([[3.0, -1.0]], "float32"))  # 0.9, 0.1
    layer = keras.layers.Dense(10, activation=kr.activations.spherical_softmax)
    ```

    Reference: Alexandre de Brébisson and Pascal Vincent, *An Exploration of Softmax Alternatives Belonging to
    the Spherical Loss Family*, ICLR 2016, arXiv:1511.05042.
    """
    check_number("epsilon", epsilon, above=0)
    x = as_float(x)
    f = ops.square(upcast(x)) + epsilon
    return ops.cast(f / ops.sum(f, axis=axis, keepdims=True), x.dtype)
