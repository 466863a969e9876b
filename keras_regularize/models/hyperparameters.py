"""Hyperparameters that are optimized: what they are within their bounds, and how much they are perturbed."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.numerics import as_float, inverse_softplus, log_softplus, upcast
from keras_regularize.validation import check_number


def constrain(
    raw: Any, lower: float | None = None, upper: float | None = None, discrete: bool = False
) -> Any:
    r"""Maps real numbers into the bounds of a hyperparameter.

    $l + (u - l)\,\mathrm{sigmoid}(x)$ between two bounds, $l + \mathrm{softplus}(x)$ or $u - \mathrm{softplus}(x)$
    with one, $x$ with none.

    Args:
        raw: $x$, a tensor.
        lower: $l$, or `None`.
        upper: $u > l$, or `None`.
        discrete: Whether values are rounded down to integers, where no gradient passes.

    Returns:
        A tensor of the shape of `raw`, in at least float32.

    Raises:
        ValueError: If a bound is no finite number, or the lower one is not below the upper one.

    Cost: some operations per entry.

    Example:

    ```python
    import keras_regularize as kr

    kr.hyper.constrain([-3.0, 0.0, 2.2], lower=0.0, upper=0.9)  # 0.04, 0.45, 0.81
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """
    lower, upper = _bounds(lower, upper)
    x = upcast(as_float(raw))
    if lower is not None and upper is not None:
        x = (upper - lower) * ops.sigmoid(x) + lower
    elif lower is not None:
        x = lower + ops.softplus(x)
    elif upper is not None:
        x = upper - ops.softplus(x)
    return ops.floor(x) if discrete else x


def unconstrain(
    value: Any, lower: float | None = None, upper: float | None = None, discrete: bool = False
) -> Any:
    r"""The real numbers that `kr.hyper.constrain` maps to given values.

    Args:
        value: Values within the bounds, and not at them: there no real number is mapped.
        lower: As in `constrain`.
        upper: As in `constrain`.
        discrete: Whether the values are integers, of which the middle of what is rounded down to them is taken.

    Returns:
        A tensor of the shape of `value`, in at least float32.

    Raises:
        ValueError: If a bound is no finite number, bounds are in the wrong order, a value is not within them, or
            one of a discrete hyperparameter is no integer.

    Cost: some operations per entry.

    Example:

    ```python
    import keras_regularize as kr

    kr.hyper.unconstrain(0.45, lower=0.0, upper=0.9)  # 0
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """
    lower, upper = _bounds(lower, upper)
    # On the host: near a bound half of the digits would be lost in float32.
    x = np.asarray(ops.convert_to_numpy(value), "float64")
    if discrete:
        if (x != np.floor(x)).any():
            raise ValueError(
                f"Values of a discrete hyperparameter must be integers. Received: value={value!r}"
            )
        x = x + 0.5
    inside = (lower is None or (x > lower).all()) and (upper is None or (x < upper).all())
    if not inside:
        raise ValueError(
            f"Values must be between {lower} and {upper}, and not at these bounds. Received: value={value!r}"
        )
    if lower is not None and upper is not None:
        x = np.log(x - lower) - np.log(upper - x)
    elif lower is not None or upper is not None:
        z = x - lower if upper is None else upper - x
        x = z + np.log(-np.expm1(-z))
    return ops.convert_to_tensor(x, dtype=keras.config.floatx())


def _bounds(lower, upper):
    lower = check_number("lower", lower, optional=True)
    upper = check_number("upper", upper, optional=True)
    if lower is not None and upper is not None and lower >= upper:
        raise ValueError(f"`lower` must be below `upper`. Received: lower={lower}, upper={upper}")
    if any(bound is not None and math.isinf(bound) for bound in (lower, upper)):
        raise ValueError(
            f"No bound is `None`, and others are finite. Received: lower={lower}, upper={upper}"
        )
    return lower, upper


def perturbation_entropy(scale_logits: Any) -> Any:
    r"""Entropy of independent Gaussian perturbations of hyperparameters.

    $$\sum_i \log\big(\mathrm{softplus}(s_i) \sqrt{2 \pi e}\big)$$

    Args:
        scale_logits: $s$, a tensor, of which the softplus is the standard deviation.

    Returns:
        A scalar in at least float32.

    Cost: some operations per entry.

    Example:

    ```python
    import keras_regularize as kr

    kr.hyper.perturbation_entropy([-3.0, 0.0, 2.2])  # 1.70
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """
    return ops.sum(log_softplus(as_float(scale_logits)) + 0.5 * math.log(2.0 * math.pi * math.e))


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    r"""A hyperparameter that a `kr.models.SelfTuningNetwork` finds while it trains.

    It is optimized as a real number, of which `kr.hyper.constrain` makes the value, and perturbed in training by
    Gaussian noise, so that the network sees what other values do.

    Attributes:
        name: Under which it is found in logs.
        value: Where it starts, strictly within the bounds.
        lower: Its lower bound, or `None`.
        upper: Its upper bound, or `None`. Of a dropout rate 0.9 or 0.95: near 1 nothing is left to train on.
        discrete: Whether values are rounded down to integers.
        perturbation_scale: Standard deviation of the noise at the start, above 0, on the scale of real numbers.
        shared: Whether one draw is for the whole batch, as what is not done to single samples needs.

    Raises:
        ValueError: If an argument is out of range.

    Cost: none.

    Example:

    ```python
    import keras_regularize as kr

    rate = kr.hyper.Hyperparameter("dropout", 0.05, lower=0.0, upper=0.9)
    rate.constrain(0.0)  # 0.45
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None
    discrete: bool = False
    perturbation_scale: float = 0.5
    shared: bool = False

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"`name` must be a string. Received: name={self.name!r}")
        check_number("value", self.value)
        check_number("perturbation_scale", self.perturbation_scale, above=0)
        self.raw_value  # noqa: B018 -- checks the bounds

    def constrain(self, raw: Any) -> Any:
        """The values of real numbers."""
        return constrain(raw, self.lower, self.upper, self.discrete)

    @property
    def raw_value(self) -> float:
        """The real number where it starts."""
        return float(unconstrain(self.value, self.lower, self.upper, self.discrete))

    @property
    def scale_logit(self) -> float:
        """The number where the scale of its noise starts, which is the softplus of that."""
        return inverse_softplus(self.perturbation_scale)
