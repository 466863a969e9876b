"""Roots of mean squared errors, per sample or of the batch."""

from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.losses.forecasting._batch import FLOOR, repeated
from keras_regularize.numerics import masked_mean, maximum, safe_sqrt
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs
from keras_regularize.validation import check_choice


@export
class RootMeanSquaredError(BatchCoupledLoss):
    r"""Root of the mean squared error: in units of the targets, and with a gradient of constant length.

    $$\ell = \sqrt{\operatorname{mean}\,(\hat y - y)^2},$$

    with the mean over the outputs of each sample, or over the whole batch. Keras has the latter as a metric. Its
    gradient does not fade near the minimum, unlike that of squared error, and is defined as 0 where the error is.
    For one output per sample `axis=-1` is the absolute error.

    Args:
        axis: `-1` for the mean over the last axis, a value per sample, or `None` for that over the whole batch, a
            single value that is repeated. The latter is batch-coupled: what is masked or of weight 0 is not in it.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, else a scalar.

    Raises:
        ValueError: If `axis` is neither -1 nor `None`, or the shapes do not fit.

    Cost: that of squared error.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RootMeanSquaredError(axis=None)
    loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))  # √2
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        axis: int | None = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "root_mean_squared_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.axis = check_choice("axis", axis, (-1, None))

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        return _root_mean_square(predicted - targets, self.axis, counted), None


@export
class RootMeanSquaredLogarithmicError(BatchCoupledLoss):
    r"""Root of the mean squared error of logarithms: for targets over several orders of magnitude, none negative.

    $$\ell = \sqrt{\operatorname{mean}\,\big(\log(1 + \hat y) - \log(1 + y)\big)^2},$$

    with the mean over the outputs of each sample, or over the whole batch. Errors are relative to targets far
    above 1 and absolute far below it. Targets and predictions below $10^{-7}$ count as that, as in Keras'
    `MeanSquaredLogarithmicError`: there predictions have no gradient, so let the model end in a `softplus`, and
    leave signed or standardized targets to other losses.

    Args:
        axis: `-1` for the mean over the last axis, a value per sample, or `None` for that over the whole batch, a
            single value that is repeated. The latter is batch-coupled: what is masked or of weight 0 is not in it.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, else a scalar.

    Raises:
        ValueError: If `axis` is neither -1 nor `None`, or the shapes do not fit.

    Cost: that of squared error and two logarithms.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RootMeanSquaredLogarithmicError()
    loss(np.array([[9.0, 99.0]]), np.array([[99.0, 9.0]]))  # log 10
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        axis: int | None = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "root_mean_squared_logarithmic_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.axis = check_choice("axis", axis, (-1, None))

    def values(self, y_true, y_pred, counted):
        logs = [ops.log1p(maximum(y, FLOOR)) for y in align_targets(y_true, y_pred)]
        return _root_mean_square(logs[1] - logs[0], self.axis, counted), None


def _root_mean_square(errors, axis, counted):
    squares = ops.square(errors)
    if axis is not None:
        return safe_sqrt(mean_of_outputs(squares))
    return repeated(safe_sqrt(masked_mean(squares, present(counted, errors))), errors)
