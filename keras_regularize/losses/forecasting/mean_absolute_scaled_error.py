"""Absolute error in units of that of a naive forecast."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import safe_abs
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs
from keras_regularize.validation import check_integer, check_numbers


@export
class MeanAbsoluteScaledError(Loss):
    r"""Absolute error in units of that of the naive forecast: series of any scale count alike.

    $$\ell = \operatorname{mean} \frac{|\hat y - y|}{s}, \qquad
      s = \operatorname{mean}_{t > m} |y_t - y_{t - m}|,$$

    where the scale $s$ is the mean error that repeating the last value, or the last season of length $m$, makes on
    the training series. `MeanAbsoluteScaledError.from_series(series, seasonality=m)` computes it. Below 1 is
    better than that forecast is, one step ahead, on the training series.

    Args:
        scale: $s > 0$, a number, or a list of one per output.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Forecasts of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If a scale is not positive and finite, or does not fit the outputs, or the shapes do not fit.

    Cost: that of absolute error.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    series = np.array([1.0, 3.0, 2.0, 4.0])  # Changes of 2, 1 and 2.
    loss = kr.losses.MeanAbsoluteScaledError.from_series(series)
    loss(np.array([5.0]), np.array([4.0]))  # 0.6
    ```

    Reference: Rob Hyndman and Anne Koehler, *Another Look at Measures of Forecast Accuracy*, International
    Journal of Forecasting 2006.
    """

    def __init__(
        self,
        scale: float | Sequence[float] = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_absolute_scaled_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.scale = check_numbers("scale", scale, above=0, below=float("inf"))

    @classmethod
    def from_series(
        cls, series: Any, seasonality: int = 1, **kwargs: Any
    ) -> "MeanAbsoluteScaledError":
        """The loss with the scale of a training series.

        Args:
            series: Array `(time,)`, or `(time, outputs)` for a scale per output.
            seasonality: The season's length $m$ in time steps; 1 for the last value.
            **kwargs: `reduction`, `name` and `dtype`.

        Returns:
            The loss.

        Raises:
            ValueError: If the series is not longer than a season, has NaN, or repeats itself exactly.
        """
        seasonality = check_integer("seasonality", seasonality, minimum=1)
        series = np.asarray(series, "float64")
        if series.ndim not in (1, 2) or len(series) <= seasonality:
            raise ValueError(
                f"Expected a series (time,) or (time, outputs) of more than {seasonality} time steps. "
                f"Received: series.shape={series.shape}"
            )
        scale = np.abs(series[seasonality:] - series[:-seasonality]).mean(axis=0)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(
                "A series that repeats itself, or has entries that are no finite numbers, has no scale. "
                f"Received: mean absolute changes of {scale.tolist()}"
            )
        return cls(scale.tolist(), **kwargs)

    def call(self, y_true, y_pred):
        targets, predicted = align_targets(y_true, y_pred)
        outputs = predicted.shape[-1] if len(predicted.shape) > 1 else 1
        if isinstance(self.scale, list) and outputs != len(self.scale):
            raise ValueError(
                "`scale` must be a number, or have one per output. Received: "
                f"{len(self.scale)} scales for y_pred of shape {tuple(predicted.shape)}"
            )
        scale = ops.convert_to_tensor(self.scale, dtype=predicted.dtype)
        return mean_of_outputs(safe_abs(predicted - targets) / scale)
