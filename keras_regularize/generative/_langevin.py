"""Draws from a density whose score is known at many noise levels."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import upcast
from keras_regularize.validation import check_integer, check_number, check_numbers, compatible


def langevin(
    score: Callable[[Any, Any], Any],
    start: Any,
    sigmas: Sequence[float],
    step: float = 0.1,
    num_steps: int = 5,
    data_gradient: Callable[[Any, Any], Any] | None = None,
    seed: int | None = None,
) -> np.ndarray:
    r"""Draws from a density by annealed Langevin dynamics, or from a posterior given measurements of its samples.

    At each noise level $\sigma$, from the largest down, some steps

    $$x \leftarrow x + \alpha\, \big(s(x; \sigma) + g(x; \sigma)\big) + \sqrt{2 \alpha}\; z, \qquad
      z \sim N(0, I), \qquad \alpha = \eta\, \sigma^2,$$

    with the score $s$ of the data with noise of the deviation $\sigma$. For measurements $m = A x + n$ with noise
    of the deviation $\sigma_m$ the gradient of their log-density is
    $g(x; \sigma) = A^\top (m - A x) / (\sigma_m^2 + \sigma^2)$, where the second variance stands for how far
    $x$ is from data; near 0 it is exact.

    Args:
        score: Function of $x$ `(batch, …)` and $\sigma$ `(batch,)`, such as that of `models.SUREScore`.
        start: Where the chains begin `(batch, …)`: normal numbers times the largest noise level.
        sigmas: Noise levels above 0, in the order in which they are passed.
        step: $\eta > 0$. Far above 1 the chains diverge.
        num_steps: Number of steps at each level, at least 1.
        data_gradient: The function $g$, or `None`.
        seed: Integer seed of the noise, or None.

    Returns:
        Ends of the chains, an array of the shape of `start`.

    Raises:
        ValueError: If an argument is out of its range, or a function gives another shape.

    Cost: one score and one gradient per step, compiled where the backend compiles.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    normal = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
    start = 10 * np.random.normal(size=(100, 2))
    drawn = kr.generative.langevin(normal, start, np.geomspace(10, 0.1, 20))
    ```

    Reference: Yang Song and Stefano Ermon, *Generative Modeling by Estimating Gradients of the Data Distribution*,
    NeurIPS 2019, arXiv:1907.05600. Posteriors: Ajil Jalal and others, *Robust Compressed Sensing MRI with Deep
    Generative Priors*, NeurIPS 2021, arXiv:2108.01368.
    """
    sigmas = check_numbers("sigmas", sigmas, above=0)
    check_number("step", step, above=0)
    check_integer("num_steps", num_steps, minimum=1)
    generator = keras.random.SeedGenerator(check_integer("seed", seed, optional=True))
    x = upcast(ops.convert_to_tensor(start))

    def move(x, sigma, z):
        direction = _shaped("score", score(x, sigma), x)
        if data_gradient is not None:
            direction = direction + _shaped("data_gradient", data_gradient(x, sigma), x)
        size = step * ops.reshape(sigma * sigma, (-1, *(1,) * (len(x.shape) - 1)))
        return x + size * direction + ops.sqrt(2.0 * size) * z

    run = backend.compiled(move)
    for sigma in sigmas if isinstance(sigmas, list) else [sigmas]:
        level = ops.full((x.shape[0],), sigma, dtype=x.dtype)
        for _ in range(num_steps):
            z = keras.random.normal(x.shape, dtype=x.dtype, seed=generator)
            x = run(x, level, z)
    return ops.convert_to_numpy(x)


def _shaped(name, value, x):
    value = ops.cast(upcast(value), x.dtype)
    if not compatible(value.shape, x.shape):
        raise ValueError(
            f"`{name}` must give the shape of what it is given. Received: {tuple(value.shape)} for "
            f"{tuple(x.shape)}"
        )
    return value
