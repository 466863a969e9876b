"""How far predicted distributions are from being calibrated."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.losses.probabilistic.distributions import (
    check_cdf,
    probability_integral_transform,
)
from keras_regularize.metrics._samples import leave_out, position_weights
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class ProbabilisticCalibrationError(Configured, keras.metrics.Metric):
    r"""How often targets fall below their predicted quantiles, against how often they should.

    With the predicted distribution functions $F_i$ and the levels $a_j = (j - \frac12) / L$,

    $$\frac1L \sum_{j=1}^L \Big\lvert a_j - \frac1n \sum_{i=1}^n \big[F_i(y_i) \le a_j\big] \Big\rvert^p$$

    over all samples since the last reset: 0 if 30 % of the targets lie below their 30 % quantile and so on, and
    0.5 (for $p = 1$) if all lie above, or all below, everything predicted. It says nothing about how wide the
    distributions are: that of all targets, predicted for every input, is calibrated. Look at the likelihood or
    `losses.GaussianCRPS` too. Of $n$ samples from what is predicted it is about $0.31 / \sqrt n$, not 0.

    Args:
        power: $p$, above 0.
        levels: Number $L$ of levels, at least 1.
        cdf: For distributions other than a Gaussian or a mixture: a function `(y_true, y_pred)` that gives the
            probabilities `(...)` of values up to the targets `(...)` from predictions `(..., parameters)`.
            Registered with `keras.saving.register_keras_serializable` it survives saving.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Parameters of the distributions as in `losses.gaussian_mixture_cdf`: `(batch, 2)` or
            `(batch, 3 * components)`. Axes in between are those of further targets.
        sample_weight: Weights `(batch,)` or one per target, or a scalar. What has weight 0 does not count, nor
            does what the mask of the predictions leaves out.

    Returns:
        `result()` is a float32 scalar, 0 before the first update. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of range, or the shapes do not fit.

    Cost: a search among the levels for every target.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.ProbabilisticCalibrationError()
    predictions = np.tile([0.0, 0.54], (1000, 1))  # Mean 0 and standard deviation softplus(0.54) = 1.
    metric.update_state(np.random.normal(size=1000), predictions)
    float(metric.result())  # About 0.01
    ```

    Reference: Victor Dheur and Souhaib Ben Taieb, *A Large-Scale Study of Probabilistic Calibration in Neural
    Network Regression*, ICML 2023, arXiv:2306.02738.
    """

    def __init__(
        self,
        power: float = 1.0,
        levels: int = 100,
        cdf: Callable[[Any, Any], Any] | None = None,
        name: str | None = "probabilistic_calibration_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.power = check_number("power", power, above=0)
        self.levels = check_integer("levels", levels, minimum=1)
        self.cdf = check_cdf(cdf)
        # The weight of the targets by the least level that they do not exceed; the last exceed all.
        self._sums = add_sums(self, (self.levels + 1, 1))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the targets of a batch."""
        pit = probability_integral_transform(y_true, y_pred, self.cdf)
        weight = position_weights(y_pred, pit.shape, sample_weight)
        ones = ops.cast(ops.where(ops.isnan(pit), np.nan, ops.ones_like(pit)), "float32")
        counts, pit = (ops.reshape(x, (-1,)) for x in (leave_out(ones, weight), pit))
        levels = ops.convert_to_tensor(self._levels(), dtype=pit.dtype)
        bins = ops.searchsorted(levels, pit, side="left")
        accumulate(self._sums, segment_sums([counts], bins, self.levels + 1))

    def result(self):
        """The calibration error of the targets so far."""
        below = ops.cumsum(total(self._sums)[:, 0])
        count = below[-1]
        share = below[:-1] / ops.where(count == 0, 1.0, count)
        levels = ops.convert_to_tensor(self._levels(), dtype=share.dtype)
        error = ops.mean(ops.power(ops.absolute(levels - share), self.power))
        return ops.where(count == 0, 0.0, error)

    def _levels(self):
        return (np.arange(self.levels) + 0.5) / self.levels
