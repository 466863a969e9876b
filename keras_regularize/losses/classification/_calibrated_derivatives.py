"""Random slopes of calibrated losses, for the samples of a batch."""

from typing import Any

from keras import ops

from keras_regularize.numerics import maximum, minimum, upcast
from keras_regularize.validation import compatible


def calibrated_derivatives(margins: Any, noise: Any, box_cox: Any = 0.0) -> Any:
    r"""Slopes that some random loss, convex and calibrated for classification, has at the margins of a batch.

    A loss of the margin $s = (2 y - 1) f$ of a binary classifier leads to the right decisions if it is convex and
    falls at 0. It enters training by its slopes alone, so these are drawn in its place. From standard normal noise
    $u$, by the inverse Box–Cox transform $B$,

    $$d_i = -\min\big(B(u_i), 1\big), \qquad
    B(u) = \max(1 + \lambda u, 0)^{1 / \lambda} \ \text{ or for } \lambda = 0 \ \ e^u,$$

    of which the samples are given the steepest to the smallest margin, and so on in order, which makes the loss
    convex. Where $s_i > 1$ the slope is divided by $s_i$, so that the loss stays bounded from below. Last,
    $10^{-6}$ is subtracted: every slope is negative.

    Use it with fresh noise in every step, as `kr.models.EnsLoss` does: the gradient of the loss is that of
    $\frac1n \sum_i d_i s_i$ with constant $d_i$.

    Args:
        margins: $s$ `(batch,)`.
        noise: $u$, of the same shape.
        box_cox: $\lambda$ of the transform, a number or a scalar tensor. Smaller values spread small slopes more.

    Returns:
        The slopes `(batch,)` in at least float32, without gradient.

    Raises:
        ValueError: If the shapes differ or are not `(batch,)`.

    Cost: three sorts of the batch.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    margins = keras.ops.array([-1.0, 0.2, 3.0])
    slopes = kr.losses.calibrated_derivatives(margins, keras.random.normal((3,)))
    ```

    Reference: Ben Dai, *EnsLoss: Stochastic Calibrated Loss Ensembles for Preventing Overfitting in
    Classification*, 2024, arXiv:2409.00908. The bound of 1 is that of the author's code.
    """
    margins, noise = ops.stop_gradient(upcast(margins)), ops.stop_gradient(upcast(noise))
    if len(margins.shape) != 1 or not compatible(noise.shape, margins.shape):
        raise ValueError(
            "Expected margins and noise of shape (batch,). Received: "
            f"margins.shape={tuple(margins.shape)}, noise.shape={tuple(noise.shape)}"
        )
    noise = ops.cast(noise, margins.dtype)
    slopes = -ops.exp(minimum(_log_inverse_box_cox(noise, box_cox), 0.0))
    ranks = ops.argsort(ops.argsort(margins))
    slopes = ops.take(ops.sort(slopes), ranks, axis=0)
    return slopes / maximum(margins, 1.0) - 1e-6


def _log_inverse_box_cox(u, box_cox):
    """log B(u), or where B is 0 or infinite a large number."""
    box_cox = ops.cast(box_cox, u.dtype)
    near_zero = ops.abs(box_cox) < 1e-6
    power = ops.where(near_zero, 1.0, box_cox)
    inside = power * u > -1.0
    value = ops.log1p(ops.where(inside, power * u, 0.0)) / power
    value = ops.where(inside, value, -1e30 * ops.sign(power))
    return ops.where(near_zero, u, value)
