"""What scores and denoisers are trained by: errors that need no knowledge of the density, or of clean data."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.models.autoencoders.jacobians import flat, jacobian
from keras_regularize.models.diffusion.schedules import per_sample
from keras_regularize.numerics import mean, upcast
from keras_regularize.validation import check_choice, check_integer, check_number, compatible

DIVERGENCES = ("difference", "hutchinson", "exact")


def denoising_score_matching(score: Any, noise: Any, sigma: Any, power: float = 2.0) -> Any:
    r"""How far a network is from the score of noisy data, from the noise alone.

    For noise $n = \sigma z$ with $z \sim N(0, I)$ that was added to a sample,

    $$\tfrac12\, \sigma^p\, \Big\| s + \frac{n}{\sigma^2} \Big\|^2,$$

    summed over the entries of the sample. Its least expectation is at $s = \nabla \log p_\sigma$, the score of the
    noisy data. By $p = 2$ all noise levels count alike.

    Args:
        score: Scores $s$ of the noisy samples `(batch, …)`.
        noise: The noise $n$ that was added, of the same shape.
        sigma: Noise levels $\sigma > 0$, `(batch,)` or a number.
        power: $p$.

    Returns:
        One value per sample `(batch,)`.

    Raises:
        ValueError: If `power` is no number or the shapes do not fit.

    Cost: a few operations per entry.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    z, score = np.random.normal(size=(2, 4, 8))
    sigma = np.array([0.1, 0.2, 0.5, 1.0])
    loss = kr.generative.denoising_score_matching(score, sigma[:, None] * z, sigma)  # (4,)
    ```

    Reference: Pascal Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, Neural Computation
    2011. Weights by noise level: Yang Song and Stefano Ermon, *Generative Modeling by Estimating Gradients of the
    Data Distribution*, NeurIPS 2019, arXiv:1907.05600.
    """
    check_number("power", power)
    score = upcast(score)
    noise, sigma = ops.cast(noise, score.dtype), ops.cast(sigma, score.dtype)
    if not compatible(noise.shape, score.shape) or not (
        len(sigma.shape) == 0 or compatible(sigma.shape, score.shape[:1])
    ):
        raise ValueError(
            "Expected a score and noise (batch, …) of one shape, and sigma (batch,) or a number. Received: shapes "
            f"{tuple(score.shape)}, {tuple(noise.shape)} and {tuple(sigma.shape)}"
        )
    level = per_sample(sigma, score)
    # sigma ** (p / 2) goes inside: a small sigma squared twice is 0 in single precision.
    error = level ** (power / 2.0) * score + level ** (power / 2.0 - 2.0) * noise
    return 0.5 * ops.sum(error * error, axis=tuple(range(1, len(score.shape))))


def sure(
    denoiser: Callable[[Any], Any],
    inputs: Any,
    noise_level: float,
    probe: Any = None,
    epsilon: float = 1e-3,
    divergence: str = "difference",
    seed: Any = None,
) -> Any:
    r"""Stein's unbiased estimate of a denoiser's squared error, from noisy data alone.

    For noisy samples $y = x + \sigma_w z$ with $n$ entries and a denoiser $h$,

    $$\frac1n \|h(y) - y\|^2 - \sigma_w^2 + \frac{2 \sigma_w^2}{n} \operatorname{div} h(y),$$

    whose expectation over the noise is that of $\frac1n \|h(y) - x\|^2$. Of the divergence, the trace of the
    Jacobian, one number per sample is known up to noise of a probe $b \sim N(0, I)$:

    | `divergence` | it is | cost in passes |
    |---|---|---|
    | `"difference"` | $b^\top (h(y + \epsilon b) - h(y)) / \epsilon$ | one forward |
    | `"hutchinson"` | $b^\top J b$ | one backward |
    | `"exact"` | $\operatorname{tr} J$ | $n$ backward |

    Args:
        denoiser: $h$, a model or any function of `(batch, …)` that treats samples independently and can be
            differentiated.
        inputs: Noisy samples $y$.
        noise_level: $\sigma_w \ge 0$.
        probe: $b$ of the shape of `inputs`, drawn if not given.
        epsilon: $\epsilon > 0$ of `"difference"`. In single precision 1e-3 leaves an error of some 1e-4 times the
            root of $n$.
        divergence: One of the three.
        seed: Seed or `keras.random.SeedGenerator` of the probe.

    Returns:
        One value per sample `(batch,)`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not fit.

    Cost: one forward pass of the denoiser, and that of the divergence, which training doubles if it is a backward
    pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    y = np.random.normal(size=(100, 8)).astype("float32")
    shrink = lambda y: 0.5 * y
    estimate = kr.generative.sure(shrink, y, noise_level=0.7, divergence="exact")
    ```

    Reference: Charles Stein, *Estimation of the Mean of a Multivariate Normal Distribution*, Annals of Statistics
    1981. The probe: Sathish Ramani, Thierry Blu and Michael Unser, *Monte-Carlo SURE: A Black-Box Optimization of
    Regularization Parameters for General Denoising Algorithms*, IEEE Transactions on Image Processing 2008.
    """
    check_number("noise_level", noise_level, minimum=0)
    check_number("epsilon", epsilon, above=0)
    check_choice("divergence", divergence, DIVERGENCES)
    return risk_and_output(denoiser, inputs, noise_level, probe, epsilon, divergence, seed)[0]


def risk_and_output(denoiser, inputs, noise_level, probe, epsilon, divergence, seed):
    """The estimate of `sure`, and what the denoiser gives out."""
    y = upcast(inputs)
    if probe is None:
        if isinstance(seed, int):
            check_integer("seed", seed)
        probe = keras.random.normal(ops.shape(y), dtype=y.dtype, seed=seed)
    probe = ops.cast(probe, y.dtype)
    if len(y.shape) < 2 or not compatible(probe.shape, y.shape):
        raise ValueError(
            "Expected inputs (batch, …) and a probe of the same shape. Received: shapes "
            f"{tuple(y.shape)} and {tuple(probe.shape)}"
        )

    def function(y):
        output = upcast(denoiser(y))
        if not compatible(output.shape, y.shape):
            raise ValueError(
                "The denoiser must give out the shape of its inputs. Received: inputs "
                f"{tuple(y.shape)}, an output {tuple(output.shape)}"
            )
        return output

    if divergence == "hutchinson":
        output, product = autodiff.vjp(function, y, probe)
        trace = mean(flat(product) * flat(probe), axis=-1)
    else:
        output = function(y)
        if divergence == "exact":
            rows = jacobian(function, y)
            size = rows.shape[1]
            rows = ops.reshape(rows, (-1, size, size))
            trace = ops.sum(rows * ops.eye(size, dtype=rows.dtype), axis=(1, 2)) / size
        else:
            moved = function(y + epsilon * probe) - output
            trace = mean(flat(moved) * flat(probe), axis=-1) / epsilon
    residual = mean(ops.square(flat(output) - flat(y)), axis=-1)
    variance = noise_level**2
    return residual - variance + 2.0 * variance * trace, output
