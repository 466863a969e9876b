"""Deviances of distributions between Poisson and gamma, and beyond."""

import numpy as np
from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import maximum, minimum, xlogy
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs
from keras_regularize.validation import check_number

#: Least mean.
FLOOR = 1e-7


@export
class Tweedie(Loss):
    r"""Deviance of a Tweedie distribution: for counts, amounts and totals, whose variance grows with their mean.

    For the mean $\mu$ and the power $p$ in $\operatorname{Var}(y) \propto \mu^p$,

    $$\ell = 2 \left( \frac{\max(y, 0)^{2-p}}{(1-p)(2-p)} - \frac{y\, \mu^{1-p}}{1-p} +
      \frac{\mu^{2-p}}{2-p} \right),$$

    with the limits $2\,(y \log \frac{y}{\mu} - y + \mu)$ at $p = 1$ (Poisson) and $2\,(\log \frac{\mu}{y} +
    \frac{y}{\mu} - 1)$ at $p = 2$ (gamma). $p = 0$ is squared error. Between 1 and 2 it is for amounts with many
    exact zeros, such as rainfall, claims or sales. It is 0 for $\mu = y$, least at the mean of the targets, and
    equals scikit-learn's `mean_tweedie_deviance`. Keras' `Poisson` is that of $p = 1$ up to a factor and what
    does not depend on $\mu$.

    Args:
        power: $p$, at most 0 or at least 1.
        from_logits: Whether `y_pred` is $\log \mu$: always a positive mean, and a gradient everywhere.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`: at least 0 for $p \ge 1$, above 0 for $p \ge 2$.
            The value of others is NaN.
        y_pred: Means of the same shape, or their logarithms. A last axis of size 1 may be missing on either side.
            But for $p = 0$, a mean below $10^{-7}$ counts as that, without a gradient.

    Returns:
        With `reduction="none"` values at least 0, `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If `power` is between 0 and 1, or the shapes do not fit.

    Cost: two powers per prediction.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.poisson(1.0, 64) * np.random.gamma(2.0, size=64)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", loss=kr.losses.Tweedie(1.5, from_logits=True))
    model.fit(x, y, verbose=0)
    mean = np.exp(model.predict(x, verbose=0))
    ```

    Reference: Bent Jørgensen, *Exponential Dispersion Models*, Journal of the Royal Statistical Society B 1987.
    """

    def __init__(
        self,
        power: float = 1.5,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "tweedie",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.power = check_number("power", power)
        if 0 < self.power < 1:
            raise ValueError(f"`power` must be at most 0 or at least 1. Received: power={power!r}")
        self.from_logits = bool(from_logits)

    def call(self, y_true, y_pred):
        y, predicted = align_targets(y_true, y_pred)
        return mean_of_outputs(self._deviance(y, predicted))

    def _deviance(self, y, predicted):
        p = self.power
        if p == 0:
            return ops.square(y - (_exp(predicted, 30.0) if self.from_logits else predicted))
        log_mean = predicted if self.from_logits else ops.log(maximum(predicted, FLOOR))
        inside = y > 0 if p >= 2 else y >= 0
        positive = ops.where(y > 0, y, 1.0)
        if p == 1:
            terms = xlogy(y, y), y * log_mean, y - _exp(log_mean)
        elif p == 2:
            terms = -ops.log(positive), -log_mean, 1.0 - y * _exp(-log_mean)
        else:
            own = ops.where(y > 0, ops.power(positive, 2.0 - p), 0.0) / ((1.0 - p) * (2.0 - p))
            scaled = y * _exp((1.0 - p) * log_mean) / (1.0 - p)
            terms = own, scaled, -_exp((2.0 - p) * log_mean) / (2.0 - p)
        deviance = 2.0 * (terms[0] - terms[1] - terms[2])
        return deviance if p < 1 else ops.where(inside, deviance, np.nan)


def _exp(x, bound=60.0):
    """The exponential, continued by its tangent above `bound`."""
    return ops.exp(minimum(x, bound)) * (1.0 + ops.relu(x - bound))
