"""Proper score of a predicted ensemble."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import mean, safe_abs
from keras_regularize.registration import export
from keras_regularize.targets import split_parameters


@export
class EnsembleCRPS(Loss):
    r"""Continuous ranked probability score of an ensemble: predicts a distribution by some draws from it.

    With the members $x_1 \dots x_m$ that are predicted for a target,

    $$\frac1m \sum_i |x_i - y| - \frac{1}{2 m^2} \sum_{i, j} |x_i - x_j|$$

    is the score of their empirical distribution: close to the target, but no closer together than they have to
    be. Members that are outputs of one layer become quantiles at the levels $(i - \frac12) / m$, whatever their
    order.

    With `fair=True` the second sum is divided by $2 m (m - 1)$ instead. That is for members drawn at random, by
    noise that goes into the network: the expected score is that of the distribution they are drawn from, where
    the other form asks a small ensemble to be too narrow. Outputs of one layer it would drive apart, the outer
    ones to the smallest and the largest target.

    Args:
        fair: Whether to score the distribution that the members are drawn from; takes at least 2 members.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Members `(batch, members)`.

    Returns:
        With `reduction="none"` one value per target `(batch,)`, else a scalar. Axes between batch and members,
        such as time, are those of further targets.

    Raises:
        ValueError: If the shapes do not fit, the number of members is unknown, or too small for `fair=True`.

    Cost: a sort of the members of every target; no array over their pairs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(20)])
    model.compile("adam", loss=kr.losses.EnsembleCRPS())
    model.fit(x, y, verbose=0)
    ```

    Reference: Tilmann Gneiting and Adrian E. Raftery, *Strictly Proper Scoring Rules, Prediction, and
    Estimation*, Journal of the American Statistical Association 2007. Fair: Christopher A. T. Ferro, *Fair scores
    for ensemble forecasts*, Quarterly Journal of the Royal Meteorological Society 2014.
    """

    def __init__(
        self,
        fair: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ensemble_crps",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fair = bool(fair)

    def call(self, y_true, y_pred):
        targets, members = split_parameters(y_true, y_pred)
        number = members.shape[-1]
        least = 2 if self.fair else 1
        if number is None or number < least:
            raise ValueError(
                f"Expected a known number of members, at least {least}, on the last axis. "
                f"Received: y_pred.shape={tuple(members.shape)}, fair={self.fair}"
            )
        # The sum over pairs, of the members in ascending order: no array of them.
        pairs = number * (number - 1 if self.fair else number)
        shares = (2.0 * ops.arange(number, dtype=members.dtype) + (1 - number)) / pairs
        spread = ops.sum(shares * ops.sort(members, axis=-1), axis=-1)
        return mean(safe_abs(members - ops.expand_dims(targets, -1)), axis=-1) - spread
