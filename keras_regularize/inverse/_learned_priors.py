"""What a learned denoiser knows about images, and solving inverse problems with it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.inverse._operators import as_operator, noise_like, norm_of, repeat
from keras_regularize.numerics import TINY, upcast
from keras_regularize.validation import check_choice, check_integer, check_number, compatible


class Prior(NamedTuple):
    """What `evaluate_prior` gives, for each sample."""

    value: Any
    inverse: Any
    residual: Any


def evaluate_prior(
    layer: Any, x: Any, iterations: int = 2000, learning_rate: float = 1e-2
) -> Prior:
    r"""The prior $\varphi$ whose proximal map a layer has become, at given points.

    With the $y$ for which $f(y) = x$, found as the minimum of the convex $\psi(y) - \langle x, y \rangle$ by Adam,

    $$\varphi(x) = \langle x, y \rangle - \tfrac12 \|x\|^2 - \psi(y), \qquad f = \nabla \psi =
      \operatorname{prox}_\varphi,$$

    up to a constant. For a layer trained on images with noise of standard deviation $\sigma$ by
    `kr.losses.ProximalMatching`, it is about $-\sigma^2 \log p(x)$. It exists where $x$ is in the range of the
    layer: a `residual` that does not vanish says that it is not, or that there were too few iterations.

    Args:
        layer: A `kr.layers.LearnedProximal` or `kr.layers.GradientOf`.
        x: Points `(batch, …)`.
        iterations: Number of steps, at least 1.
        learning_rate: Length of a step of Adam, above 0, in units of `x`; it falls to 0 over the last half.

    Returns:
        A named tuple: `value`, $\varphi(x)$ of shape `(batch,)`; `inverse`, the $y$ found; `residual`, $\|f(y) -
        x\|$ of shape `(batch,)`.

    Raises:
        ValueError: If a number is out of range or `layer` has no potential.

    Cost: one pass of the layer per iteration.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    layer = kr.layers.LearnedProximal(8, 2, beta=10.0, strong_convexity=0.1)
    layer.build((None, 1))
    kr.inverse.evaluate_prior(layer, np.linspace(-1, 1, 5)[:, None], iterations=50).value
    ```

    Reference: Zhenghan Fang, Sam Buchanan and Jeremias Sulam, *What's in a Prior? Learned Proximal Networks for
    Inverse Problems*, ICLR 2024, arXiv:2310.14344.
    """
    check_integer("iterations", iterations, minimum=1)
    check_number("learning_rate", learning_rate, above=0)
    if not hasattr(layer, "potential"):
        raise ValueError(
            "`layer` must be a `kr.layers.LearnedProximal` or `kr.layers.GradientOf`. "
            f"Received: layer={layer!r}"
        )
    x = upcast(x)
    if not layer.built:
        layer.build(tuple(x.shape))
    return Prior(*backend.compiled(lambda x: _prior(layer, x, iterations, learning_rate))(x))


def _prior(layer, x, iterations, learning_rate):
    def step(i, state):
        y, first, second = state
        gradient = ops.cast(layer(y), x.dtype) - x
        k = ops.cast(i, x.dtype) + 1.0
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient * gradient
        rate = learning_rate * ops.minimum(1.0, 2.0 * (iterations - k) / iterations)
        scaled = ops.sqrt(second / (1.0 - ops.power(0.999, k))) + 1e-8
        return y - rate * first / (1.0 - ops.power(0.9, k)) / scaled, first, second

    start = (x, ops.zeros_like(x), ops.zeros_like(x))
    y = repeat(iterations, step, start)[0]
    axes = tuple(range(1, len(x.shape)))
    value = ops.sum(x * y - 0.5 * x * x, axis=axes) - ops.cast(layer.potential(y), x.dtype)
    residual = ops.cast(layer(y), x.dtype) - x
    return value, y, ops.sqrt(ops.sum(residual * residual, axis=axes))


def convex_cnn(
    input_shape: Sequence[int],
    filters: int = 32,
    num_layers: int = 3,
    kernel_size: int = 3,
    beta: float = 10.0,
    strong_convexity: float = 0.01,
) -> keras.Model:
    r"""A convolutional network that is convex in its input: `kr.layers.GradientOf` makes a denoiser of it.

    As in `kr.layers.LearnedProximal`, with convolutions: each block convolves the features before with kernels
    that are at least 0 and the image with any, adds them up and applies a softplus of sharpness $\beta$. Every
    second block halves the size, with the image averaged down for it. The mean of the last features, weighted by
    numbers at least 0, and $\alpha \|x\|^2$ are the value.

    Args:
        input_shape: Shape of the images, `(height, width, channels)`.
        filters: Number of features, at least 1.
        num_layers: Number of blocks after the first, at least 0.
        kernel_size: Side of the kernels, at least 1.
        beta: $\beta > 0$; 10 for digits, 100 for fine images.
        strong_convexity: $\alpha \ge 0$.

    Returns:
        A model from images to `(batch, 1)`, of Keras' own layers.

    Raises:
        ValueError: If an argument is out of range.

    Cost: that of its convolutions.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    denoiser = kr.layers.GradientOf(kr.inverse.convex_cnn((8, 8, 1), filters=4, num_layers=1))
    model = keras.Sequential([keras.Input((8, 8, 1)), denoiser])
    model.compile("adam", "mae")
    x = np.random.uniform(size=(8, 8, 8, 1))
    model.fit(x + 0.1 * np.random.normal(size=x.shape), x, verbose=0)
    ```

    Reference: Zhenghan Fang, Sam Buchanan and Jeremias Sulam, *What's in a Prior? Learned Proximal Networks for
    Inverse Problems*, ICLR 2024, arXiv:2310.14344; Brandon Amos, Lei Xu and J. Zico Kolter, *Input Convex Neural
    Networks*, ICML 2017, arXiv:1609.07152.
    """
    if not isinstance(input_shape, (tuple, list)) or len(input_shape) != 3:
        raise ValueError(
            f"`input_shape` must be (height, width, channels). Received: input_shape={input_shape!r}"
        )
    shape = tuple(check_integer("input_shape", size, minimum=1) for size in input_shape)
    check_integer("filters", filters, minimum=1)
    check_integer("num_layers", num_layers, minimum=0)
    check_integer("kernel_size", kernel_size, minimum=1)
    check_number("beta", beta, above=0)
    check_number("strong_convexity", strong_convexity, minimum=0)
    layers = keras.layers
    positive = {
        # Small, so that a network of sums does not start out steep.
        "kernel_initializer": keras.initializers.RandomUniform(
            0.0, 2.0 / (kernel_size**2 * filters)
        ),
        "kernel_constraint": keras.constraints.NonNeg(),
        "use_bias": False,
    }

    def rectify(x):
        return ops.softplus(beta * x) / beta

    image = x = keras.Input(shape)
    options = {"padding": "same", "data_format": "channels_last"}
    z = rectify(layers.Conv2D(filters, kernel_size, **options)(x))
    for i in range(num_layers):
        stride = 2 if i % 2 == 0 else 1
        if stride == 2:
            x = layers.AveragePooling2D(2, 2, **options)(x)
        of_features = layers.Conv2D(filters, kernel_size, stride, **options, **positive)(z)
        z = rectify(of_features + layers.Conv2D(filters, kernel_size, **options)(x))
    sums = ops.sum(z, axis=(1, 2))
    value = layers.Dense(1, **positive)(sums)
    value = value + strong_convexity * ops.sum(ops.square(image), axis=(1, 2, 3))[:, None]
    return keras.Model(image, value)


def plug_and_play(
    y: Any,
    operator: Any,
    denoiser: Callable[[Any], Any],
    solver: str = "pgd",
    step_size: float | None = None,
    iterations: int = 100,
    shape: Sequence[int] | None = None,
) -> Any:
    r"""Solves an inverse problem with a denoiser in the place of a proximal map.

    By `"pgd"`, proximal gradient descent, or by `"admm"`, alternating directions:

    $$x \leftarrow f\big(x - \eta A^\top (A x - y)\big), \qquad
      x \leftarrow \operatorname{prox}_{\eta h}(z - u),\; z \leftarrow f(x + u),\; u \leftarrow u + x - z,$$

    with $h(x) = \tfrac12 \|A x - y\|^2$, from $x = A^\top y \,/\, \|A\|^2$. If the denoiser is the proximal map of
    some $\varphi$, as a `kr.layers.LearnedProximal` is by construction, the first with $\eta \le 1 / \|A\|^2$
    descends to a stationary point of $h + \varphi / \eta$; others may cycle.

    Args:
        y: Measurements, `(batch, m)` for a matrix.
        operator: $A$: a matrix `(m, n)`, or a pair of functions `(forward, adjoint)` between images `(batch, …)`
            and measurements.
        denoiser: $f$, a Keras model or a function of images `(batch, …)`.
        solver: `"pgd"` or `"admm"`.
        step_size: $\eta > 0$; `None` for $1 / \|A\|^2$.
        iterations: Number of iterations, at least 1.
        shape: Shape of an image, if a matrix acts on its `reshape`; `None` for `(n,)`.

    Returns:
        The images `(batch, …)`.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Cost: a pass of the denoiser and two products with the map per iteration; with `"admm"` twenty products in
    each,
        of conjugate gradients.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    matrix = np.random.default_rng(0).normal(size=(20, 40)).astype("float32")
    y = (matrix[:, 3] - matrix[:, 7])[None]
    shrink = lambda x: kr.activations.soft_threshold(x, 0.01)
    x = kr.inverse.plug_and_play(y, matrix, shrink, iterations=200)
    ```

    Reference: Singanallur V. Venkatakrishnan, Charles A. Bouman and Brendt Wohlberg, *Plug-and-Play priors for
    model based reconstruction*, GlobalSIP 2013; Zhenghan Fang, Sam Buchanan and Jeremias Sulam, *What's in a
    Prior? Learned Proximal Networks for Inverse Problems*, ICLR 2024, arXiv:2310.14344.
    """
    check_choice("solver", solver, ("pgd", "admm"))
    check_integer("iterations", iterations, minimum=1)
    if not callable(denoiser):
        raise ValueError(
            f"`denoiser` must be a model or a function. Received: denoiser={denoiser!r}"
        )
    y = upcast(y)
    operator = as_operator(operator, y, shape)
    back = operator.adjoint(y)
    if len(back.shape) < 2:
        raise ValueError(
            "`plug_and_play` takes batches of measurements: give one sample as `y[None]`. "
            f"Received: y.shape={tuple(y.shape)}"
        )
    squared = ops.square(norm_of(operator, noise_like(back))) + TINY
    if step_size is None:
        step_size = 0.95 / squared
    else:
        check_number("step_size", step_size, above=0)
    x = back / squared

    def denoised(x):
        found = upcast(denoiser(x))
        if not compatible(found.shape, x.shape):
            raise ValueError(
                "`denoiser` must keep the shape of images. "
                f"Received: shape={tuple(found.shape)} for images {tuple(x.shape)}"
            )
        return ops.cast(found, x.dtype)

    def descend(_, x):
        return denoised(x - step_size * operator.adjoint(operator.forward(x) - y))

    def alternate(_, state):
        x, z, u = state
        x = _data_prox(z - u, back, operator, step_size, x)
        z = denoised(x + u)
        return x, z, u + x - z

    denoised(x)  # A model that is not built yet is built outside of the loop.
    if solver == "pgd":
        return repeat(iterations, descend, x)
    return repeat(iterations, alternate, (x, x, ops.zeros_like(x)))[1]


def _data_prox(point, back, operator, step_size, start):
    """Solves `(1 + η AᵀA) x = point + η Aᵀy` by ten conjugate gradients per sample, from a start."""
    axes = tuple(range(1, len(point.shape)))

    def system(x):
        return x + step_size * operator.adjoint(operator.forward(x))

    def inner(a, b):
        return ops.sum(a * b, axis=axes, keepdims=True)

    def step(_, state):
        x, residual, direction, size = state
        image = system(direction)
        length = size / (inner(direction, image) + TINY)
        x, residual = x + length * direction, residual - length * image
        new = inner(residual, residual)
        return x, residual, residual + new / (size + TINY) * direction, new

    residual = point + step_size * back - system(start)
    state = (start, residual, residual, inner(residual, residual))
    return repeat(10, step, state)[0]
