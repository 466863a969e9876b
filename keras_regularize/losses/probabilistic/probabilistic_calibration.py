"""How far predicted distributions are from being calibrated, as a loss."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.losses.probabilistic.distributions import (
    check_cdf,
    probability_integral_transform,
)
from keras_regularize.numerics import cumsum, masked_mean, matmul, maximum, mean, safe_abs
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number

_SPACING = 64


@export
class ProbabilisticCalibration(BatchCoupledLoss):
    r"""Penalty for predicted distributions whose probabilities are not those that targets occur with.

    With the predicted distribution functions $F_i$ and the targets $y_i$ of a batch, the $u_i = F_i(y_i)$ are
    uniform on [0, 1] if the predictions are calibrated. The penalty is how far they are from that: with
    $u_{(1)} \le \dots \le u_{(n)}$ and levels $a_j = (j - \frac12) / L$,

    $$\frac1L \sum_{j=1}^L \Big\lvert a_j - \frac1n \sum_{i=1}^n \operatorname{sigmoid}\Big(
      \frac{a_j - u_i}{\tau}\Big) \Big\rvert^p \ (\texttt{kde}), \qquad
      \frac1n \sum_{i=1}^n \Big\lvert u_{(i)} - \frac{i}{n + 1} \Big\rvert^p \ (\texttt{sort}),$$

    $$-\frac{1}{n - m} \sum_{i=1}^{n-m} \ln \Big[ \frac{n + 1}{m} \big(u_{(i + m)} - u_{(i)} + 10^{-5}\big) \Big]
      \ (\texttt{entropy}),$$

    the last being minus the entropy of the $u_i$, with $m = 64$, or $\lfloor\sqrt n\rfloor$ below 128 samples.
    `"kde"` tends to `metrics.ProbabilisticCalibrationError` as $\tau \to 0$. `"entropy"` as published counts too
    little at both ends: with less than about 1000 samples it is lower for the $u_i$ of an overconfident network,
    which pile up there, than for uniform ones. Prefer the others.

    It goes beside a likelihood or a CRPS, as in the example: alone it is content with the distribution of all
    targets for every input. The authors search its weight in 0.01 to 10. It sees the training data, which a
    network that memorizes fits in every respect. In their study recalibration on held-out data,
    `analysis.QuantileRecalibration`, has the lowest calibration errors.

    The loss is batch-coupled: every value is that of the batch, over the samples that count, neither masked nor of
    weight 0. Small batches are noisy, 256 samples and more are advised. A $u_i$ that float32 cannot tell from 0 or
    1, from 5.5 standard deviations on, has hardly any gradient.

    Args:
        method: `"kde"`, `"sort"` or `"entropy"`.
        power: $p \ge 1$ of `"kde"` and `"sort"`.
        levels: Number $L \ge 1$ of levels of `"kde"`.
        temperature: $\tau > 0$ of `"kde"`.
        cdf: For distributions other than a Gaussian or a mixture: a function `(y_true, y_pred)` that gives the
            probabilities `(...)` of values up to the targets `(...)` from predictions `(..., parameters)`.
            Registered with `keras.saving.register_keras_serializable` it survives saving.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Parameters of the distributions as in `losses.gaussian_mixture_cdf`: `(batch, 2)` or
            `(batch, 3 * components)`. Axes in between are those of further targets.

    Returns:
        With `reduction="none"` the value of the batch for every target `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of range, or the shapes do not fit.

    Cost: `levels` operations per sample for `"kde"`, a sort of the batch for the others.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(256, 8)), np.random.normal(size=256)
    model = keras.Sequential([keras.layers.Dense(2)])
    likelihood = kr.losses.GaussianNegativeLogLikelihood()
    loss = kr.losses.WeightedSum([likelihood, kr.losses.ProbabilisticCalibration()], [1.0, 5.0])
    model.compile("adam", loss, metrics=[kr.metrics.ProbabilisticCalibrationError()])
    model.fit(x, y, batch_size=256, verbose=0)
    ```

    Reference: Victor Dheur and Souhaib Ben Taieb, *A Large-Scale Study of Probabilistic Calibration in Neural
    Network Regression*, ICML 2023, arXiv:2306.02738. Their `"sort"` is relaxed as well, where the gradient here is
    that of the sorted values. `"entropy"`: Saiteja Utpala and Piyush Rai, *Quantile Regularization: Towards
    Implicit Calibration of Regression Models*, 2020, arXiv:2002.12860.
    """

    def __init__(
        self,
        method: str = "kde",
        power: float = 1.0,
        levels: int = 100,
        temperature: float = 0.01,
        cdf: Callable[[Any, Any], Any] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "probabilistic_calibration",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.method = check_choice("method", method, ("kde", "sort", "entropy"))
        self.power = check_number("power", power, minimum=1)
        self.levels = check_integer("levels", levels, minimum=1)
        self.temperature = check_number("temperature", temperature, above=0)
        self.cdf = check_cdf(cdf)

    def values(self, y_true, y_pred, counted):
        pit = probability_integral_transform(y_true, y_pred, self.cdf)
        flat, weight = (ops.reshape(x, (-1,)) for x in (pit, present(counted, pit)))
        count = ops.sum(weight)
        if self.method == "kde":
            value = self._kde(flat, weight, count)
        else:
            # What does not count goes to the end, where one more is: TensorFlow sorts no empty batch.
            flat = ops.concatenate(
                [ops.where(weight > 0, flat, 2.0), 2.0 + ops.zeros((1,), flat.dtype)]
            )
            ascending, rank = ops.sort(flat), cumsum(ops.ones_like(flat))
            value = getattr(self, f"_{self.method}")(ascending, rank, count)
        return value * ops.ones_like(pit), None

    def _kde(self, pit, weight, count):
        levels = (ops.arange(self.levels, dtype=pit.dtype) + 0.5) / self.levels
        below = ops.sigmoid((levels - pit[:, None]) / self.temperature)
        share = matmul(weight[None, :], below)[0] / maximum(count, 1.0)
        return mean(self._distance(levels - share))

    def _sort(self, ascending, rank, count):
        distance = self._distance(ascending - rank / (count + 1.0))
        return masked_mean(distance, rank <= count)

    def _entropy(self, ascending, rank, count):
        # Rounded down, and never below an exact root.
        few = ops.cast(ops.sqrt(count + 0.5), "int32")
        spacing = ops.where(count < 2 * _SPACING, few, _SPACING)
        later = ops.cast(rank, "int32") - 1 + spacing
        inside = later < ops.cast(count, "int32")
        gap = ops.take(ascending, ops.where(inside, later, 0)) - ascending
        rate = (count + 1.0) / maximum(ops.cast(spacing, count.dtype), 1.0)
        return masked_mean(-ops.log((ops.where(inside, gap, 1.0) + 1e-5) * rate), inside)

    def _distance(self, difference):
        size = safe_abs(difference)
        return size if self.power == 1 else ops.power(size, self.power)
