"""Diffusion in continuous noise levels, with a network whose inputs and outputs have unit variance."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.validation import check_integer, check_number


class Preconditioning(NamedTuple):
    """What a network is surrounded with at a noise level, and what its squared errors weigh."""

    skip: Any
    out: Any
    scale: Any
    time: Any
    weight: Any


def edm_preconditioning(sigma: Any, sigma_data: float = 0.5) -> Preconditioning:
    r"""What a network is surrounded with, so that its inputs and targets have unit variance at every noise level.

    The estimate of data from $x = x_0 + \sigma \epsilon$ is
    $D(x) = c_\text{skip}\, x + c_\text{out}\, F(c_\text{in}\, x,\, c_\text{noise})$ with

    $$c_\text{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
      c_\text{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
      c_\text{in} = \frac1{\sqrt{\sigma^2 + \sigma_d^2}}, \quad c_\text{noise} = \tfrac14 \ln \sigma$$

    and the weight $\lambda = (\sigma^2 + \sigma_d^2) / (\sigma \sigma_d)^2$ of $\|D(x) - x_0\|^2$, by which the
    error of $F$ itself weighs 1.

    Args:
        sigma: Noise levels $\sigma > 0$, a number or a tensor of any shape.
        sigma_data: $\sigma_d > 0$, the deviation of the data.

    Returns:
        A named tuple `(skip, out, scale, time, weight)` of tensors of the shape of `sigma`.

    Raises:
        ValueError: If `sigma_data` is not positive.

    Cost: a few operations per noise level.

    Example:

    ```python
    import keras_regularize as kr

    skip, out, scale, time, weight = kr.generative.edm_preconditioning([0.002, 0.5, 80.0])
    ```

    Reference: Tero Karras, Miika Aittala, Timo Aila and Samuli Laine, *Elucidating the Design Space of
    Diffusion-Based Generative Models*, NeurIPS 2022, arXiv:2206.00364.
    """
    check_number("sigma_data", sigma_data, above=0)
    sigma = upcast(sigma)
    # Squares of neither are added: those of small levels would be lost beside 1, or vanish.
    ratio = sigma / sigma_data
    length = ops.sqrt(1.0 + ratio * ratio)
    return Preconditioning(
        skip=1.0 / (length * length),
        out=sigma / length,
        scale=1.0 / (sigma_data * length),
        time=0.25 * ops.log(sigma),
        weight=ops.square(length / sigma),
    )


def edm_sigmas(
    num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    r"""Falling noise levels for a sampler, close together where there is little noise.

    $$\sigma_i = \Big(\sigma_{\max}^{1/\rho}
      + \frac{i}{n - 1}\big(\sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho}\big)\Big)^\rho, \qquad
      i = 0, \dots, n - 1, \qquad \sigma_n = 0.$$

    Args:
        num_steps: $n \ge 1$, the number of steps from one level to the next.
        sigma_min: $\sigma_{\min} > 0$, the last level above 0.
        sigma_max: $\sigma_{\max} \ge \sigma_{\min}$, the first level.
        rho: $\rho > 0$; with a larger one more levels are small.

    Returns:
        An array of $n + 1$ numbers, the last of which is 0. A single step begins at $\sigma_{\max}$.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: a power per step.

    Example:

    ```python
    import keras_regularize as kr

    kr.generative.edm_sigmas(5)  # 80, 17.5, 2.52, 0.170, 0.002, 0
    ```

    Reference: Tero Karras, Miika Aittala, Timo Aila and Samuli Laine, *Elucidating the Design Space of
    Diffusion-Based Generative Models*, NeurIPS 2022, arXiv:2206.00364.
    """
    check_integer("num_steps", num_steps, minimum=1)
    check_number("sigma_min", sigma_min, above=0)
    check_number("sigma_max", sigma_max, minimum=sigma_min)
    check_number("rho", rho, above=0)
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = np.linspace(first, last, num_steps) ** rho
    return np.append(levels, 0.0)


#: Mean and deviation of the logarithm of noise levels in training.
LOG_SIGMA = (-1.2, 1.2)


def of_edm_target(sigma: Any, sigma_data: float) -> tuple[Any, Any]:
    """By what data and noise are multiplied in the target of the network inside, $(x_0 - c_skip x) / c_out$."""
    ratio = sigma / sigma_data
    length = ops.sqrt(1.0 + ratio * ratio)
    return ratio / (length * sigma_data), -1.0 / length
