"""Conditional value at risk: the mean of the worst losses."""

from typing import Any

from keras_regularize.losses.risk.spectral_risk import SpectralRisk
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class CVaR(SpectralRisk):
    r"""Conditional value at risk of another loss: the mean over the worst fraction of the batch.

    With the losses of the batch sorted, $\ell_{(1)} \ge \ell_{(2)} \ge \dots$, and $k = a n$,

    $$\frac1k \sum_{i \le k} \ell_{(i)} = \min_\eta\ \eta + \frac1{a n} \sum_i \max(\ell_i - \eta, 0),$$

    where a fractional $k$ counts a part of the sample at the edge. `tail=1` is the mean, `tail` of at most
    $1/n$ the largest loss. It is `SpectralRisk(loss, "cvar", tail)`, known as average top-k loss too; each
    sample in the tail contributes its loss divided by $a$, the others 0.

    With $a$ small most of the batch has no gradient: raise the batch size rather than the learning rate.
    Sample weights multiply the contributions and do not change which samples are the worst, but samples and
    positions that do not count (weight 0, masked, ignored by the wrapped loss) are not there: `tail=1` is the
    wrapped loss, whatever the weights and masks.

    Args:
        loss: The loss per sample: a `keras.losses.Loss`, a function, or the name of one of Keras' own. Its own
            reduction is not used.
        tail: Fraction $a$ of worst samples, above 0 and at most 1.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: What the wrapped loss takes.
        y_pred: What the wrapped loss takes. Losses per position, `(batch, time)`, are averaged per sample to
            find the worst samples.

    Returns:
        With `reduction="none"` the contributions, whose mean is the risk, of the shape of the wrapped loss'
        values; `call` gives their means per sample, `(batch,)`.

    Raises:
        ValueError: If `tail` is out of its range, or the wrapped loss gives a scalar.

    Cost: the wrapped loss and one sort of the batch.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=(64, 1))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", loss=kr.losses.CVaR("mean_squared_error", tail=0.25))
    model.fit(x, y, batch_size=64, verbose=0)
    ```

    Reference: Rockafellar and Uryasev, *Optimization of Conditional Value-at-Risk*, Journal of Risk 2000; as a
    training loss: Fan, Lyu, Ying and Hu, *Learning with Average Top-k Loss*, NeurIPS 2017, arXiv:1705.08826.
    """

    def __init__(
        self,
        loss: Any,
        tail: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cvar",
        dtype: str | None = None,
    ):
        self.tail = check_number("tail", tail, above=0, maximum=1)
        super().__init__(loss, "cvar", tail, reduction=reduction, name=name, dtype=dtype)
