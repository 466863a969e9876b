"""Errors relative to those of a constant forecast, or to the size of the targets, over the whole batch."""

import numpy as np
from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.losses.forecasting._batch import (
    FLOOR,
    contributions,
    counted_sum,
    repeated,
)
from keras_regularize.numerics import masked_mean, maximum, safe_abs, safe_sqrt
from keras_regularize.registration import export
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice


@export
class RelativeAbsoluteError(BatchCoupledLoss):
    r"""Absolute error relative to that of the mean target: 1 is no better than a constant.

    $$\ell = \frac{\sum |\hat y - y|}{\max(\sum |y - \bar y|,\ 10^{-7})},$$

    with sums, and the mean $\bar y$, over all targets of the batch. It is batch-coupled: the values per sample are
    $n$ times its part of the numerator over the denominator, and their mean is the formula. What is masked or of
    weight 0 is in no sum. Where all targets of a batch are equal the value is huge.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`. Outputs share one mean: give them one scale.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, else a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few passes over the predictions. In small batches the denominator is noisy, which changes the length of
    steps.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RelativeAbsoluteError()
    loss(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))  # 0.5
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "relative_absolute_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        here = present(counted, predicted)
        spread = counted_sum(safe_abs(targets - masked_mean(targets, here)), here)
        return contributions(safe_abs(predicted - targets), spread, here), None


@export
class RelativeSquaredError(BatchCoupledLoss):
    r"""Squared error relative to that of the mean target: one less the share of variance explained, $1 - R^2$.

    $$\ell = \frac{\sum (\hat y - y)^2}{\max(\sum (y - \bar y)^2,\ 10^{-7})},$$

    with sums, and the mean $\bar y$, over all targets of the batch. It is batch-coupled: the values per sample are
    $n$ times its part of the numerator over the denominator, and their mean is the formula. What is masked or of
    weight 0 is in no sum. The code of the survey divides by the squared error itself, which is always 1; here
    it is the formula.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`. Outputs share one mean: give them one scale.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, else a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few passes over the predictions. In small batches the denominator is noisy, which changes the length of
    steps.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RelativeSquaredError()
    loss(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))  # 0.5
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "relative_squared_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        here = present(counted, predicted)
        spread = counted_sum(ops.square(targets - masked_mean(targets, here)), here)
        return contributions(ops.square(predicted - targets), spread, here), None


@export
class NormalizedRootMeanSquaredError(BatchCoupledLoss):
    r"""Root mean squared error in units of the targets' standard deviation, range or mean.

    $$\ell = \frac{\sqrt{\operatorname{mean}\,(\hat y - y)^2}}{\max(s(y),\ 10^{-7})},$$

    with means and scale $s$ over all targets of the batch. It is batch-coupled: every sample has the value of the
    batch. What is masked or of weight 0 is in no mean. The code of the survey divides by the deviation of the
    predictions, which a model increases at will; here it is that of the targets.

    Args:
        normalization: The scale $s$: `"std"`, the standard deviation of the targets, `"range"`, the largest less
            the smallest, or `"mean"`, the absolute value of their mean.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`. Outputs share one scale.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, all equal; else a scalar.

    Raises:
        ValueError: If `normalization` is none of the three, or the shapes do not fit.

    Cost: a few passes over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.NormalizedRootMeanSquaredError("range")
    loss(np.array([0.0, 10.0]), np.array([1.0, 9.0]))  # 0.1
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        normalization: str = "std",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "normalized_root_mean_squared_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.normalization = check_choice("normalization", normalization, SCALES)

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        here = present(counted, predicted)
        error = safe_sqrt(masked_mean(ops.square(predicted - targets), here))
        scale = SCALES[self.normalization](targets, here)
        return repeated(error / maximum(scale, FLOOR), predicted), None


@export
class RelativeRootMeanSquaredError(BatchCoupledLoss):
    r"""Root of the squared error relative to the squares of the targets.

    $$\ell = \sqrt{\frac{\sum (\hat y - y)^2}{\max(\sum y^2,\ 10^{-7})}},$$

    with sums over all targets of the batch: a forecast of zeros costs 1. It is batch-coupled: every sample has the
    value of the batch. What is masked or of weight 0 is in no sum.

    Args:
        relative_to: `"y_true"`, or `"y_pred"` for the squares of the predictions in the denominator, as the
            code of the survey has it: a model can lower that by large predictions.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`. Outputs share one scale.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, all equal; else a scalar.

    Raises:
        ValueError: If `relative_to` is neither of the two, or the shapes do not fit.

    Cost: a few passes over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RelativeRootMeanSquaredError()
    loss(np.array([3.0, 4.0]), np.array([3.0, 3.0]))  # 0.2
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        relative_to: str = "y_true",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "relative_root_mean_squared_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.relative_to = check_choice("relative_to", relative_to, ("y_true", "y_pred"))

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        here = present(counted, predicted)
        base = targets if self.relative_to == "y_true" else predicted
        squares = maximum(counted_sum(ops.square(base), here), FLOOR)
        error = counted_sum(ops.square(predicted - targets), here)
        return repeated(safe_sqrt(error / squares), predicted), None


def _deviation(x, here):
    return safe_sqrt(masked_mean(ops.square(x - masked_mean(x, here)), here))


def _range(x, here):
    kept = here > 0
    largest = ops.max(ops.where(kept, x, -np.inf), initial=-np.inf)
    return largest + ops.max(ops.where(kept, -x, -np.inf), initial=-np.inf)


def _size_of_mean(x, here):
    return safe_abs(masked_mean(x, here))


SCALES = {"std": _deviation, "range": _range, "mean": _size_of_mean}
