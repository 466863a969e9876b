"""The mean of signed errors."""

from keras_regularize.losses.loss import Loss
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs


@export
class MeanBiasError(Loss):
    r"""Mean of the signed errors: whether forecasts are too low (positive) or too high on average.

    $$\ell = \operatorname{mean}\,(y - \hat y).$$

    Errors of opposite signs cancel, and the value has no lower bound: trained on it alone a model diverges to ever
    larger predictions. It is for looking, in `compile(metrics=[…])`, and for tilting another loss:
    `losses.WeightedSum(["mse", MeanBiasError()], weights=[1.0, 0.1])` leans to forecasts that are too high.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: one pass over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.MeanBiasError()(np.array([1.0, 2.0]), np.array([2.0, 3.0]))  # -1: too high by 1
    ```

    Reference: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_bias_error",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        targets, predicted = align_targets(y_true, y_pred)
        return mean_of_outputs(targets - predicted)
