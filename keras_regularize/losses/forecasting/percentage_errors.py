"""Errors as percentages that do not explode where a target is zero."""

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.losses.forecasting._batch import FLOOR, contributions, counted_sum
from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import maximum, safe_abs
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs


@export
class SymmetricMeanAbsolutePercentageError(Loss):
    r"""Absolute error as a percentage of the mean of target and forecast: at most 200, also at targets of zero.

    $$\ell = 100 \cdot \operatorname{mean} \frac{2\, |\hat y - y|}{\max(|y| + |\hat y|,\ 10^{-7})} .$$

    Keras' `MeanAbsolutePercentageError` divides by the target alone and has no bound. 0 forecast as 0 costs 0. A
    forecast of the wrong sign costs 200, and so does any other where the target is zero, all without a
    gradient: with many such targets take `WeightedAbsolutePercentageError`. In spite of its name it is not
    symmetric: a forecast too low costs more than one as much too high.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Forecasts of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values in [0, 200], the mean over outputs, `(batch, …)`; else a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few passes over the forecasts.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.SymmetricMeanAbsolutePercentageError()
    loss(np.array([[100.0, 0.0]]), np.array([[110.0, 0.0]]))  # 4.76: half of 2 · 10 / 210
    ```

    Reference: Spyros Makridakis, *Accuracy Measures: Theoretical and Practical Concerns*, International Journal of
    Forecasting 1993.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "symmetric_mean_absolute_percentage_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        targets, predicted = align_targets(y_true, y_pred)
        size = safe_abs(targets) + safe_abs(predicted)
        error = safe_abs(predicted - targets)
        return 200.0 * mean_of_outputs(error / maximum(size, FLOOR))


@export
class WeightedAbsolutePercentageError(BatchCoupledLoss):
    r"""Absolute error as a percentage of the targets of the whole batch: large targets count for more.

    $$\ell = 100\, \frac{\sum |\hat y - y|}{\max(\sum |y|,\ 10^{-7})},$$

    with sums over all targets of the batch; also known as WMAPE, or ND. Single targets of zero do no harm, unlike
    in Keras' `MeanAbsolutePercentageError`. It is batch-coupled: the values per sample are $n$ times its part
    of the numerator over the denominator, and their mean is the formula. What is masked or of weight 0 is in no
    sum.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Forecasts of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, else a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few passes over the forecasts. The loss of a small batch is a noisy estimate of that of all data.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.WeightedAbsolutePercentageError()
    loss(np.array([100.0, 0.0]), np.array([90.0, 1.0]))  # 11
    ```

    Reference: Stephan Kolassa and Wolfgang Schütz, *Advantages of the MAD/Mean Ratio over the MAPE*, Foresight
    2007.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "weighted_absolute_percentage_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        here = present(counted, predicted)
        total = counted_sum(safe_abs(targets), here)
        return 100.0 * contributions(safe_abs(predicted - targets), total, here), None
