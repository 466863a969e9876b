"""A Huber loss for diffusion models that depends on the time step: robust where noise hides the data."""

import math
from typing import Any

from keras import ops

from keras_regularize.losses.regression.pseudo_huber import pseudo_huber
from keras_regularize.numerics import as_float, mean, upcast
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice, check_integer, check_number, compatible


def pseudo_huber_schedule(
    timesteps: Any,
    num_timesteps: int,
    delta: float = 0.1,
    schedule: str = "exponential",
    alphas_cumprod: Any = None,
) -> Any:
    r"""The parameter of `scheduled_pseudo_huber` for each time step of a diffusion model.

    | `schedule` | $\delta_t$ |
    |---|---|
    | `"exponential"` | $\delta^{t / T}$, from 1 at $t = 0$ down to $\delta$ |
    | `"snr"` | $(1 - \delta) / (1 + \sigma_t)^2 + \delta$ |
    | `"constant"` | $\delta$ |

    with $\sigma_t^2 = (1 - \bar\alpha_t) / \bar\alpha_t$. A small $\delta_t$ is robust and a large one is nearly
    squared error. Where the noise is strong, outliers of the data decide on which image is drawn, and
    robustness keeps them out; where it is weak, details are learnt, and squared error learns them best.

    Args:
        timesteps: Integers $t$ from 0 to $T - 1$, of any shape.
        num_timesteps: $T \ge 1$, their number.
        delta: $\delta$ in (0, 1].
        schedule: `"exponential"`, that of the paper, `"snr"`, that of the implementation in wide use, or
            `"constant"`.
        alphas_cumprod: $\bar\alpha_t$, the products of $1 - \beta$ up to each time step `(num_timesteps,)`, in
            (0, 1]: for `"snr"`.

    Returns:
        $\delta_t$, floats of the shape of `timesteps`.

    Raises:
        ValueError: If an argument is out of its range, or `alphas_cumprod` is missing or of another length.

    Cost: a few operations per time step given.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.pseudo_huber_schedule(np.array([0, 500, 999]), 1000)  # 1, 0.316, 0.1
    ```

    Reference: Artem Khrapov, Vadim Popov, Tasnima Sadekova, Assel Yermekova and Mikhail Kudinov, *Improving
    Diffusion Models's Data-Corruption Resistance using Scheduled Pseudo-Huber Loss*, 2024, arXiv:2403.16728.
    """
    check_integer("num_timesteps", num_timesteps, minimum=1)
    check_number("delta", delta, above=0, maximum=1)
    check_choice("schedule", schedule, ("exponential", "snr", "constant"))
    timesteps = ops.convert_to_tensor(timesteps)
    t = as_float(timesteps)
    if schedule == "constant":
        return ops.full_like(t, delta)
    if schedule == "exponential":
        return ops.exp(math.log(delta) / num_timesteps * t)
    if alphas_cumprod is None or not compatible(ops.shape(alphas_cumprod), (num_timesteps,)):
        given = None if alphas_cumprod is None else tuple(ops.shape(alphas_cumprod))
        raise ValueError(
            f'`schedule="snr"` needs `alphas_cumprod` of shape ({num_timesteps},). '
            f"Received: alphas_cumprod{'=None' if given is None else f'.shape={given}'}"
        )
    products = ops.cast(ops.convert_to_tensor(alphas_cumprod), t.dtype)
    at = ops.take(products, ops.cast(timesteps, "int32"), axis=0)
    noise = ops.sqrt((1.0 - at) / at)
    return (1.0 - delta) / ops.square(1.0 + noise) + delta


def scheduled_pseudo_huber(y_true: Any, y_pred: Any, delta_t: Any, scaling: str = "huber") -> Any:
    r"""Pseudo-Huber loss with a parameter per sample, for the `compute_loss` of a diffusion model.

    For the errors $e$ of a sample and its $\delta_t$, the mean over all its entries of

    $$\delta_t^2 \Big( \sqrt{1 + (e / \delta_t)^2} - 1 \Big).$$

    It needs the time step of each sample, which a loss of Keras never sees: call it where the time steps are
    drawn.

    Args:
        y_true: What is to be predicted, such as the noise `(batch, …)`.
        y_pred: Predictions of the same shape.
        delta_t: $\delta_t > 0$, `(batch,)`, such as `pseudo_huber_schedule` gives, or a number.
        scaling: As in `losses.PseudoHuber`. By `"huber"` samples of a small $\delta_t$ have small gradients;
            `"l2"` is twice that, and by `"l1"` large errors of all samples have equal ones.

    Returns:
        One value per sample `(batch,)`.

    Raises:
        ValueError: If `scaling` is unknown, or the shapes do not fit.

    Cost: that of squared error and a square root.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    noise, predicted = np.random.normal(size=(2, 4, 8, 8, 3))
    t = np.random.randint(0, 1000, size=4)
    delta_t = kr.generative.pseudo_huber_schedule(t, 1000)
    loss = keras.ops.mean(kr.generative.scheduled_pseudo_huber(noise, predicted, delta_t))
    ```

    Reference: Artem Khrapov, Vadim Popov, Tasnima Sadekova, Assel Yermekova and Mikhail Kudinov, *Improving
    Diffusion Models's Data-Corruption Resistance using Scheduled Pseudo-Huber Loss*, 2024, arXiv:2403.16728.
    """
    check_choice("scaling", scaling, ("huber", "l2", "l1"))
    targets, predicted = align_targets(y_true, y_pred)
    delta_t = ops.cast(upcast(delta_t), predicted.dtype)
    rank, given = len(predicted.shape), tuple(delta_t.shape)
    if given and not compatible(given, predicted.shape[:1]):
        raise ValueError(
            "`delta_t` must be a number, or one per sample (batch,). "
            f"Received: delta_t.shape={given}, y_pred.shape={tuple(predicted.shape)}"
        )
    if given:
        delta_t = ops.reshape(delta_t, (-1, *(1,) * (rank - 1)))
    values = pseudo_huber(predicted - targets, delta_t, scaling)
    return mean(values, axis=tuple(range(1, rank))) if rank > 1 else values
