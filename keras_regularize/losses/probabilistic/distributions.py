"""What a network predicts of a target, a Gaussian or a mixture of them: read from its outputs in one place."""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.targets import split_parameters
from keras_regularize.validation import compatible

#: The least standard deviation.
SCALE_FLOOR = 1e-6
HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


def read_gaussian(y_true, y_pred):
    """`(error, scale)`, the target less the mean and the standard deviation, of predictions `(..., 2)`."""
    targets, parameters = split_parameters(y_true, y_pred, 2)
    return targets - parameters[..., 0], scale_of(parameters[..., 1])


def read_mixture(y_true, y_pred):
    """`(log_weights, errors, means, scales)`, each `(..., components)`, of predictions `(..., 3 · components)`.

    A Gaussian `(..., 2)` is a mixture of one.
    """
    targets, parameters = split_parameters(y_true, y_pred)
    number = parameters.shape[-1]
    if number == 2:
        means, raw = parameters[..., :1], parameters[..., 1:]
        log_weights = ops.zeros_like(means)
    elif number is not None and number > 0 and number % 3 == 0:
        logits, means, raw = ops.split(parameters, 3, axis=-1)
        log_weights = ops.log_softmax(logits, axis=-1)
    else:
        raise ValueError(
            "Expected predictions (..., 2) of a Gaussian, mean and raw scale, or (..., 3 * components) of a "
            "mixture: logits, means and raw scales. Received: "
            f"y_pred.shape={tuple(parameters.shape)}. The calibration of other distributions takes `cdf=`."
        )
    return log_weights, ops.expand_dims(targets, -1) - means, means, scale_of(raw)


def scale_of(raw):
    """The standard deviation that a raw output stands for."""
    return ops.softplus(raw) + SCALE_FLOOR


def negative_log_normal(error, scale):
    """The negative log-density of a Gaussian, for errors of any size."""
    z = error / scale
    return 0.5 * z * z + ops.log(scale) + HALF_LOG_TAU


def mean_distance(error, scale):
    """The mean of `|error + scale · N(0, 1)|`."""
    z = error / scale
    return error * ops.erf(math.sqrt(0.5) * z) + scale * (
        math.sqrt(2 / math.pi) * ops.exp(-0.5 * z * z)
    )


def log_density(y_true: Any, y_pred: Any) -> Any:
    """The log-density `(...)` of a predicted Gaussian or mixture at the target."""
    log_weights, errors, _, scales = read_mixture(y_true, y_pred)
    logs = log_weights - negative_log_normal(errors, scales)
    # Twice: of sums of 1e8, far from the target, the shares of the components are lost to rounding on PyTorch.
    total = ops.stop_gradient(ops.logsumexp(logs, axis=-1, keepdims=True))
    return total[..., 0] + ops.logsumexp(logs - total, axis=-1)


@export
def gaussian_mixture_cdf(y_true: Any, y_pred: Any) -> Any:
    r"""Probability that a predicted Gaussian, or mixture of Gaussians, gives to values up to the target.

    $$F(y) = \sum_k w_k\, \Phi\Big(\frac{y - \mu_k}{\sigma_k}\Big), \qquad w = \operatorname{softmax}(a), \quad
      \sigma_k = \operatorname{softplus}(r_k) + 10^{-6},$$

    with the standard normal distribution function $\Phi$. Of targets that were drawn from what is predicted it is
    uniform on [0, 1]: the probability integral transform, PIT. In float32 it is exactly 0 or 1 from about 5.5
    standard deviations on.

    Args:
        y_true: Targets `(...)` or `(..., 1)`.
        y_pred: `(..., 2)`: mean $\mu$ and raw scale $r$; or `(..., 3 * components)`: logits $a$, means $\mu$ and
            raw scales $r$, one after the other, as `layers.GaussianMixture` gives them out.

    Returns:
        Probabilities `(...)`.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few operations per component.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.gaussian_mixture_cdf(np.zeros(1), np.array([[0.0, 1.0]]))  # [0.5]
    ```

    Reference: Christopher M. Bishop, *Mixture Density Networks*, 1994.
    """
    log_weights, errors, _, scales = read_mixture(y_true, y_pred)
    below = 0.5 + 0.5 * ops.erf(math.sqrt(0.5) * errors / scales)
    return ops.sum(ops.exp(log_weights) * below, axis=-1)


def probability_integral_transform(
    y_true: Any, y_pred: Any, cdf: Callable[[Any, Any], Any] | None = None
) -> Any:
    """`cdf(y_true, y_pred)`, a probability `(...)` for every target; of a Gaussian or mixture without `cdf`."""
    if cdf is None:
        return gaussian_mixture_cdf(y_true, y_pred)
    targets, parameters = split_parameters(y_true, y_pred)
    values = upcast(cdf(targets, parameters))
    if not compatible(values.shape, targets.shape):
        raise ValueError(
            "`cdf` must give one probability per target. Received: values of shape "
            f"{tuple(values.shape)} for targets of shape {tuple(targets.shape)}"
        )
    return values


def check_cdf(cdf):
    """`cdf`, which must be a function of targets and predictions, or `None`."""
    if cdf is not None and not callable(cdf):
        raise ValueError(
            f"`cdf` must be a function of y_true and y_pred, or None. Received: cdf={cdf!r}"
        )
    return cdf
