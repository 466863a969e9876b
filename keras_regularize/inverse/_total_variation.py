"""Images of little total variation: denoised, or found from their measurements."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.inverse._operators import (
    as_operator,
    is_pair,
    noise_like,
    norm_of,
    repeat,
    repeat_while,
)
from keras_regularize.numerics import TINY, minimum, upcast
from keras_regularize.ops.differences import (
    axes_of_space,
    differences_and_adjoint,
    forward_differences,
)
from keras_regularize.validation import check_integer, check_number, compatible

#: Stands for an infinite weight.
HUGE = 1e30


def space_variant_weights(image: Any, eta: float = 2e-3, p: float = 0.5) -> Any:
    r"""Weights of a total variation that spare the edges which an estimate of the image has.

    $$w_i = \Big(\frac{\eta}{\sqrt{\eta^2 + |D \tilde x|_i^2}}\Big)^{1 - p}$$

    with the differences $D$ of neighbouring pixels: 1 where the estimate $\tilde x$ is flat and about
    $(\eta / |D\tilde x|)^{1-p}$ at edges. So $\sum_i w_i |D x|_i$ is near $\sum_i |Dx|_i^p$, which hardly cares
    how high a jump is, but is convex in $x$.

    Args:
        image: $\tilde x$, `(height, width)` or `(…, height, width, channels)`.
        eta: $\eta > 0$, in units of the image: jumps below are no edges.
        p: $0 < p \le 1$; 1 gives weights of 1.

    Returns:
        The weights in (0, 1], of the shape of the image.

    Raises:
        ValueError: If a number is out of range or `image` is none.

    Cost: a few passes over the pixels.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    image = np.zeros((8, 8))
    image[2:6, 2:6] = 1.0
    weights = kr.inverse.space_variant_weights(image)
    ```

    Reference: Elena Morotti, Davide Evangelista, Andrea Sebastiani and Elena Loli Piccolomini, *Space-Variant
    Total Variation boosted by learning techniques in few-view tomographic imaging*, 2024, arXiv:2404.16900.
    """
    check_number("eta", eta, above=0)
    check_number("p", p, above=0, maximum=1)
    image = _image("image", image)
    down, right = (forward_differences(image, axis) for axis in axes_of_space(len(image.shape)))
    down, right = down / eta, right / eta
    return ops.exp(-0.5 * (1.0 - p) * ops.log1p(down * down + right * right))


def total_variation_denoise(
    y: Any,
    factor: float,
    weights: Any = None,
    nonnegative: bool = False,
    iterations: int = 500,
    tolerance: float | None = None,
) -> Any:
    r"""The image near a noisy one whose total variation is small.

    $$\arg\min_x\; \tfrac12 \|x - y\|^2 + \lambda \sum_i w_i\, |D x|_i,$$

    channel by channel, with the differences $D$ to the next row and column. The mean of the image stays as it is
    (unless it must not be negative), a large $\lambda$ makes it constant and $\lambda = 0$ gives $y$. The method
    of Chambolle and Pock, with steps for strongly convex problems.

    Args:
        y: Noisy images, `(height, width)` or `(…, height, width, channels)`.
        factor: $\lambda \ge 0$, in units of the image.
        weights: $w \ge 0$, of a shape that broadcasts to that of `y`, such as `space_variant_weights` gives;
            `None` for 1.
        nonnegative: Whether to search among images without negative entries.
        iterations: Number of iterations, at least 1; with a tolerance at most so many.
        tolerance: Stop where the norm of a step is below this part of that of the image, for all images of a
            batch. `None` makes all iterations, which can be differentiated and compiled.

    Returns:
        The images, of the shape of `y`.

    Raises:
        ValueError: If a number is out of range or `y` is no image.

    Cost: about twenty passes over the pixels per iteration. On a backend that compiles, compile calls of yours in
    a loop (`jax.jit`, `tf.function`).

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    noisy = np.random.default_rng(0).normal(0.5, 0.1, (16, 16))
    kr.inverse.total_variation_denoise(noisy, factor=0.2)
    ```

    Reference: Leonid I. Rudin, Stanley Osher and Emad Fatemi, *Nonlinear total variation based noise removal
    algorithms*, Physica D 1992; Antonin Chambolle and Thomas Pock, *A First-Order Primal-Dual Algorithm for Convex
    Problems with Applications to Imaging*, Journal of Mathematical Imaging and Vision 2011.
    """
    check_number("factor", factor, minimum=0)
    check_integer("iterations", iterations, minimum=1)
    check_number("tolerance", tolerance, above=0, optional=True)
    y = _image("y", y)
    jumps, adjoint = differences_and_adjoint(y, axes_of_space(len(y.shape)))
    radius = _radius(factor, weights, y)
    step_sizes = ops.convert_to_tensor(_accelerated_steps(iterations), dtype=y.dtype)

    def step(i, state):
        x, ahead, q = state
        row = step_sizes[i]
        primal, dual, momentum = row[0], row[1], row[2]
        # Each pixel's pair of duals is shortened to its radius.
        q = backend.shorten(*jumps(q, dual * ahead), radius)
        new = (x + primal * (y - adjoint(q))) / (1.0 + primal)
        if nonnegative:
            new = ops.relu(new)
        return new, backend.extrapolate(x, new, momentum), q

    start = (y, y, (ops.zeros_like(y), ops.zeros_like(y)))
    if tolerance is None:
        return repeat(iterations, step, start, True)[0]

    pixels = tuple(range(-min(len(y.shape), 3), 0))

    def moving(i, change, state):
        x = state[0]
        # Of each image by itself; NaN in one of them does not stop the others.
        still = change <= tolerance**2 * ops.sum(x * x, axis=pixels)
        return (i < iterations) & ops.logical_not(ops.all(still))

    def advance(i, change, state):
        new = step(i, state)
        return i + 1, ops.sum(ops.square(new[0] - state[0]), axis=pixels), new

    first = (ops.zeros((), "int32"), ops.sum(y * y, axis=pixels) + 1.0, start)
    return repeat_while(moving, advance, first)[2][0]


def chambolle_pock(
    y: Any,
    operator: Any,
    factor: float,
    shape: Sequence[int],
    weights: Any = None,
    nonnegative: bool = True,
    iterations: int = 500,
    x0: Any = None,
) -> Any:
    r"""An image from few noisy measurements, by weighted total variation.

    $$\arg\min_{x \ge 0}\; \tfrac12 \|A x - y\|^2 + \lambda \sum_i w_i\, |D x|_i,$$

    channel by channel, with the differences $D$ to the next row and column, by the primal-dual method of Chambolle
    and Pock:

    $$p \leftarrow \frac{p + \sigma (A \bar x - y)}{1 + \sigma},\quad q \leftarrow \Pi_{|q_i| \le \lambda w_i}(q +
      \sigma' D \bar x),\quad x^+ = \max(0,\, x - \tau (A^\top p + D^\top q)),\quad \bar x = 2 x^+ - x.$$

    The steps are $\tau = 1.9 \kappa / \|A\|^2$, $\sigma = 1 / (4 \kappa)$ and $\sigma' = \|A\|^2 / (32 \kappa)$.
    They converge for every $\kappa > 0$; it is $\|A\|$ between 1 and 30, so that units in which $A$ is tiny or
    huge do not matter. Authors differ in the term of data; without the half, $\lambda$ is twice ours.

    Args:
        y: Measurements, `(…, m)` for a matrix.
        operator: $A$: a matrix `(m, n)` whose columns are the pixels of an image in the order of `reshape`, or a
            pair of functions `(forward, adjoint)` such as `kr.inverse.radon_operator` gives.
        factor: $\lambda \ge 0$.
        shape: Shape of an image, `(height, width)` or `(height, width, channels)`.
        weights: $w \ge 0$, of a shape that broadcasts to that of the images, such as `space_variant_weights`
            gives; `None` for 1.
        nonnegative: Whether to search among images without negative entries.
        iterations: Number of iterations, at least 1.
        x0: Where to start, `(…, *shape)`; `None` for zeros.

    Returns:
        The images `(…, *shape)`.

    Raises:
        ValueError: If a number is out of range or the shapes do not fit.

    Cost: two products with the map and about twenty passes over the pixels per iteration, and a hundred products
    for its norm. On a backend that compiles, compile calls of yours in a loop (`jax.jit`, `tf.function`).

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    image = np.zeros((8, 8), "float32")
    image[2:6, 2:6] = 1.0
    matrix = np.random.default_rng(0).normal(size=(40, 64)).astype("float32")
    found = kr.inverse.chambolle_pock(matrix @ image.ravel(), matrix, 0.1, shape=(8, 8))
    ```

    Reference: Antonin Chambolle and Thomas Pock, *A First-Order Primal-Dual Algorithm for Convex Problems with
    Applications to Imaging*, Journal of Mathematical Imaging and Vision 2011; as in Elena Morotti, Davide
    Evangelista, Andrea Sebastiani and Elena Loli Piccolomini, *Space-Variant Total Variation boosted by learning
    techniques in few-view tomographic imaging*, 2024, arXiv:2404.16900.
    """
    check_number("factor", factor, minimum=0)
    check_integer("iterations", iterations, minimum=1)
    shape = _image_shape(shape)
    y = upcast(y)
    only_operations = not is_pair(operator)
    operator = as_operator(operator, y, shape)
    back = operator.adjoint(y)
    if not compatible(tuple(back.shape[-len(shape) :]), shape):
        raise ValueError(
            "The adjoint must map measurements to images `(…, *shape)`. "
            f"Received: shape={shape}, adjoint(y).shape={tuple(back.shape)}"
        )
    x = ops.zeros_like(back) if x0 is None else ops.cast(upcast(x0), back.dtype)
    if not compatible(x.shape, back.shape):
        raise ValueError(
            f"`x0` must be of shape {tuple(back.shape)}. Received: x0.shape={tuple(x.shape)}"
        )
    radius = _radius(factor, weights, x)
    forward, adjoint = operator
    size = norm_of(operator, noise_like(x))
    squared, balance = size * size + TINY, ops.clip(size, 1.0, 30.0)
    # `τ (σ |A|² + σ' |D|²)` is 0.95, as it has to stay below 1 and the norm may be a little more.
    primal, of_data, of_jumps = 1.9 * balance / squared, 0.25 / balance, squared / (32.0 * balance)
    jumps, adjoint_of_jumps = differences_and_adjoint(x, axes_of_space(len(shape)), of_jumps)
    kept, gained = 1.0 / (1.0 + of_data), of_data / (1.0 + of_data)
    downhill, lost = -primal, -gained * y

    def step(_, state):
        x, ahead, p, q = state
        p = backend.add_product(backend.add_product(lost, kept, p), gained, forward(ahead))
        q = backend.shorten(*jumps(q, ahead), radius)
        new = backend.add_product(x, downhill, adjoint(p) + adjoint_of_jumps(q))
        if nonnegative:
            new = ops.relu(new)
        return new, backend.extrapolate(x, new, 1.0), p, q

    start = (x, x, ops.zeros_like(y), (ops.zeros_like(x), ops.zeros_like(x)))
    return repeat(iterations, step, start, only_operations)[0]


def _radius(factor, weights, x):
    """`λ w`, for images like `x`."""
    if weights is None:
        return ops.convert_to_tensor(min(factor, HUGE), dtype=x.dtype)
    weights = upcast(weights)
    values = backend.peek(weights)
    if values is not None and np.any(values < 0):
        raise ValueError(f"`weights` must be at least 0. Received: weights={weights!r}")
    radius = minimum(factor * ops.cast(weights, x.dtype), HUGE)
    sizes = zip(radius.shape[::-1], x.shape[::-1])
    if len(radius.shape) > len(x.shape) or any(size not in (1, of_x) for size, of_x in sizes):
        raise ValueError(
            "`weights` must broadcast to the images. "
            f"Received: weights.shape={tuple(radius.shape)} for images {tuple(x.shape)}"
        )
    return radius


def _accelerated_steps(iterations):
    """Rows `(τ, σ, θ)` of Chambolle and Pock's second algorithm with `|D|² ≤ 8` and a modulus of 1."""
    rows, primal = [], 1.0
    dual = 1.0 / (8.0 * primal)
    for _ in range(iterations):
        momentum = 1.0 / (1.0 + 2.0 * primal) ** 0.5
        rows.append((primal, dual, momentum))
        primal, dual = primal * momentum, dual / momentum
    return np.array(rows)


def _image(name, x):
    x = upcast(x)
    if len(x.shape) < 2:
        raise ValueError(
            f"`{name}` must be (height, width) or (…, height, width, channels). "
            f"Received: {name}.shape={tuple(x.shape)}"
        )
    return x


def _image_shape(shape):
    if not isinstance(shape, (tuple, list)) or len(shape) not in (2, 3):
        raise ValueError(
            "`shape` must be that of an image, (height, width) or (height, width, channels). "
            f"Received: shape={shape!r}"
        )
    return tuple(check_integer("shape", size, minimum=1) for size in shape)
