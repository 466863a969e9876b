"""The pinball loss, whose least value is at a quantile."""

from collections.abc import Sequence

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs, split_parameters
from keras_regularize.validation import check_numbers


@export
class Quantile(Loss):
    r"""Pinball loss: learns a quantile of the targets, or several of them at once.

    For the quantile $q$, with $u = y - \hat y$,

    $$\ell_q = \max\big(q\, u,\ (q - 1)\, u\big),$$

    which is least, in the mean, where a share $q$ of the targets lies below the prediction. `Quantile(0.5)`
    learns the median and is half the absolute error. `Quantile([0.1, 0.5, 0.9])` takes three predictions per
    target, and its value is the mean of the three: the outer two are an interval that holds about 80 % of the
    targets, as far as the model generalizes. Nothing keeps quantiles from crossing; sort them, or predict
    the lowest and positive steps from it.

    Args:
        quantiles: A number $q$ in (0, 1), or a list of $Q$ of them.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets. For one quantile of the shape of `y_pred`; for a list `(batch, …)` or `(batch, …, 1)`.
        y_pred: Predictions. For one quantile `(batch, …, outputs)` or `(batch,)`; for a list `(batch, …, Q)`.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs or over quantiles; else a scalar.

    Raises:
        ValueError: If a quantile is outside of (0, 1), the list is empty, or the shapes do not fit.

    Cost: that of absolute error, for each quantile.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8))
    y = x[:, 0] + np.random.exponential(size=64)
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.Quantile([0.1, 0.5, 0.9]))
    model.fit(x, y, verbose=0)
    low, middle, high = model.predict(x, verbose=0).T
    ```

    Reference: Roger Koenker and Gilbert Bassett, *Regression Quantiles*, Econometrica 1978. Among losses of
    forecasts: Aryan Jadon, Avinash Patil and Shruti Jadon, *A Comprehensive Survey of Regression Based Loss
    Functions for Time Series Forecasting*, 2022, arXiv:2211.02989.
    """

    def __init__(
        self,
        quantiles: float | Sequence[float] = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "quantile",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.quantiles = check_numbers("quantiles", quantiles, above=0, below=1)

    def call(self, y_true, y_pred):
        if isinstance(self.quantiles, float):
            targets, predicted = align_targets(y_true, y_pred)
            return mean_of_outputs(_pinball(targets - predicted, self.quantiles))
        targets, predicted = split_parameters(y_true, y_pred, len(self.quantiles))
        q = ops.convert_to_tensor(self.quantiles, dtype=predicted.dtype)
        return mean(_pinball(targets[..., None] - predicted, q), axis=-1)


def _pinball(u, q):
    return q * u + ops.relu(-u)
