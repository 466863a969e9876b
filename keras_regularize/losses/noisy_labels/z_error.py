"""Losses that leave out samples whose error is an outlier of the batch."""

import numpy as np
from keras import ops

from keras_regularize.labels import align
from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.numerics import maximum, mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class ZErrorMSE(BatchCoupledLoss):
    r"""Mean squared error without the samples whose error is an outlier of the batch.

    With errors $e_i = y_i - f_i$ and their batch mean $\bar e$ and sample standard deviation $s$,

    $$\ell = \frac{\sum_i m_i\, e_i^2}{\max(\sum_i m_i, 1)}, \qquad
      m_i = \big[\, |e_i - \bar e| \le \theta\,(s + 10^{-7}) \,\big].$$

    The mask $m$ has no gradient, so a wrong target that sticks out teaches nothing. It is batch-coupled: the
    values per sample are $n\, m_i e_i^2 / \sum_j m_j$, whose mean is the formula. Statistics and counts are
    those of the samples that count: neither masked nor of weight 0. With several outputs each column has its own
    mask, and a sample's value is the mean over its outputs. Descriptions of the method differ in whether the
    error or its square is standardised; here it is the signed error.

    Args:
        threshold: $\theta \ge 0$ in standard deviations. `float("inf")` is mean squared error; below 2 also
            clean but hard samples are lost. The paper starts large and anneals to about 2: train some epochs
            with a larger threshold and compile again.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)`, `(batch, 1)` or `(batch, …, outputs)`.
        y_pred: Predictions of the same shape.

    Returns:
        With `reduction="none"` values `(batch,)`, or `(batch, …)` without the last axis; else a scalar.

    Raises:
        ValueError: If `threshold` is negative, or if the shapes of targets and predictions do not fit.

    Cost: a few passes over the predictions. Small batches have noisy statistics; with 5 samples no deviation
    exceeds 1.8 standard deviations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", loss=kr.losses.ZErrorMSE(threshold=2.5))
    model.fit(x, y, batch_size=32, verbose=0)
    ```

    Reference: Guillaume Godin, *Z-Error Loss for Training Neural Networks*, 2025, arXiv:2506.02154.
    """

    def __init__(
        self,
        threshold: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "z_error_mse",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.threshold = check_number("threshold", threshold, minimum=0)

    def values(self, y_true, y_pred, counted):
        targets, predictions = align(y_true, y_pred)
        error = targets - predictions
        here = present(counted, error)
        keep = _inliers(error, here, self.threshold, axis=0)
        values = _per_sample(keep, here, ops.square(error), axis=0)
        outputs = len(values.shape) > 1 and len(values.shape) == len(y_pred.shape)
        return (mean(values, axis=-1) if outputs else values), None


@export
class ZErrorBCE(BatchCoupledLoss):
    r"""Binary cross-entropy without the samples whose logit is an outlier of their class in the batch.

    With logits $z$, and the mean $\mu_c$ and sample standard deviation $s_c$ of the logits of class $c$ in the
    batch,

    $$\ell = \frac{\sum_i m_i\, \mathrm{BCE}(y_i, z_i)}{\max(\sum_i m_i, 1)}, \qquad
      m_i = \big[\, |z_i - \mu_{y_i}| \le \theta\,(s_{y_i} + 10^{-7}) \,\big].$$

    A sample with a wrong label has a logit that is unusual for it, and teaches nothing. The mask $m$ has no
    gradient. It is batch-coupled: the values per sample are $n\, m_i \mathrm{BCE}_i / \sum_j m_j$, whose mean is
    the formula. Statistics and counts are those of the samples that count: neither masked nor of weight 0.

    Args:
        threshold: $\theta \ge 0$ in standard deviations. `float("inf")` is binary cross-entropy; below 2 also
            clean but hard samples are lost. The paper starts large and anneals to about 2: train some epochs
            with a larger threshold and compile again.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Classes 0 or 1, `(batch,)` or `(batch, 1)`; numbers in between belong to the nearer class.
            `(batch, time)` are positions, which count as further samples.
        y_pred: Logits, not probabilities, `(batch,)` or `(batch, 1)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `threshold` is negative, or if the shapes of labels and logits do not fit.

    Cost: a few passes over the logits. Small batches have noisy statistics.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 2, size=64)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", loss=kr.losses.ZErrorBCE(threshold=2.5))
    model.fit(x, y, batch_size=64, verbose=0)
    ```

    Reference: Guillaume Godin, *Z-Error Loss for Training Neural Networks*, 2025, arXiv:2506.02154.
    """

    from_logits = True

    def __init__(
        self,
        threshold: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "z_error_bce",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.threshold = check_number("threshold", threshold, minimum=0)

    def values(self, y_true, y_pred, counted):
        labels, logits = align(y_true, y_pred)
        here = present(counted, logits)
        positive = labels >= 0.5
        keep = ops.zeros_like(logits)
        for members in (positive, ops.logical_not(positive)):
            members = here * ops.cast(members, logits.dtype)
            keep = keep + _inliers(logits, members, self.threshold, axis=None)
        values = ops.softplus(logits) - labels * logits
        return _per_sample(keep, here, values, axis=None), None


def _inliers(x, members, threshold, axis):
    """1 for the members within `threshold` standard deviations of their mean, else 0; no gradient.

    NaN for all members if one of them is no number: an outlier cannot be told then.
    """
    x = ops.where(members > 0, ops.stop_gradient(x), 0.0)
    count = ops.sum(members, axis=axis, keepdims=True)
    mean = ops.sum(x, axis=axis, keepdims=True) / maximum(count, 1.0)
    deviation = ops.absolute(x - mean)
    squares = ops.sum(members * ops.square(deviation), axis=axis, keepdims=True)
    spread = ops.sqrt(squares / maximum(count - 1.0, 1.0))
    # The rounding of the mean must not reject equal values.
    slack = 1e-7 + 1e-6 * ops.absolute(mean)
    inside = members * ops.cast(deviation <= threshold * (spread + slack), x.dtype)
    return ops.where(ops.logical_and(members > 0, ops.isnan(mean - mean)), np.nan, inside)


def _per_sample(keep, present, values, axis):
    """Contributions whose mean over what is present is the mean over the kept ones."""
    share = ops.sum(keep, axis=axis, keepdims=True) / maximum(
        ops.sum(present, axis=axis, keepdims=True), 1.0
    )
    kept = ops.where(keep == 0, 0.0, values)
    return kept / ops.where(share == 0, 1.0, share)
