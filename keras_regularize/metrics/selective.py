"""How much a model that may abstain answers, and how well."""

import numpy as np
from keras import ops

from keras_regularize.labels import align
from keras_regularize.metrics._samples import leave_out, position_weights, refuse
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


class _Selective(WeightedMean):
    """A weighted mean over samples, by a threshold of what is accepted."""

    def __init__(self, threshold: float, name: str | None, dtype: str | None):
        super().__init__(name, dtype)
        self.threshold = check_number("threshold", threshold)

    def _accepted(self, score):
        """1 where a sample is accepted, else 0; NaN where that cannot be told."""
        accepted = ops.cast(score > self.threshold, "float32")
        return ops.where(ops.isnan(score), np.nan, accepted)

    def _add(self, values, counted, y_pred, sample_weight):
        weight = position_weights(y_pred, counted.shape, sample_weight)
        self.add_values(values, leave_out(counted, weight))


@export
class Coverage(_Selective):
    r"""Share of samples that a model which may abstain accepts.

    $$\frac1n \sum_i [r_i > \theta]$$

    for acceptance scores $r$: the output of a rejector (`kr.losses.Rejection`), or any confidence. Read it
    together with `kr.metrics.SelectiveAccuracy`: either alone is easy to raise.

    Args:
        threshold: $\theta$, above which a sample is accepted. 0 for rejectors; for probabilities the confidence
            that is asked for.
        name: Name of the metric.
        dtype: Dtype, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: 1 where the predictor was right, 0 where it was wrong, `(batch,)` or `(batch, 1)`; not used.
        y_pred: Scores `(batch,)` or `(batch, 1)`.
        sample_weight: Weights of the same shape, or one per sample. Those of weight 0 do not count, nor do
            those that the mask of the scores leaves out.

    Returns:
        `result()` is a float32 scalar in `[0, 1]`, 0 before the first sample. A score that is NaN makes it NaN.

    Raises:
        ValueError: If `threshold` is no number, or if the shapes do not fit.

    Cost: one comparison per sample.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.Coverage()
    metric.update_state(np.array([1, 0, 1, 1]), np.array([0.5, -1.0, 2.0, -0.1]))
    coverage = float(metric.result())  # 0.5
    ```

    Reference: Ran El-Yaniv and Yair Wiener, *On the Foundations of Noise-free Selective Classification*, JMLR
    2010.
    """

    def __init__(
        self, threshold: float = 0.0, name: str | None = "coverage", dtype: str | None = None
    ):
        super().__init__(threshold, name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        _, score = align(y_true, y_pred)
        accepted = self._accepted(score)
        self._add(accepted, ops.ones_like(accepted), y_pred, sample_weight)


@export
class SelectiveAccuracy(_Selective):
    r"""Accuracy on the samples that a model which may abstain accepts.

    $$\frac{\sum_i y_i\,[r_i > \theta]}{\sum_i [r_i > \theta]}$$

    with $y_i = 1$ where the predictor was right and acceptance scores $r$: the output of a rejector
    (`kr.losses.Rejection`), or any confidence. Read it together with `kr.metrics.Coverage`. A good rejector with
    cost $c$ has a selective accuracy of at least $1 - c$.

    Args:
        threshold: $\theta$, above which a sample is accepted. 0 for rejectors; for probabilities the confidence
            that is asked for.
        name: Name of the metric.
        dtype: Dtype, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: 1 where the predictor was right, 0 where it was wrong, `(batch,)` or `(batch, 1)`.
        y_pred: Scores `(batch,)` or `(batch, 1)`.
        sample_weight: Weights of the same shape, or one per sample. Those of weight 0 do not count, nor do
            those that the mask of the scores leaves out.

    Returns:
        `result()` is a float32 scalar in `[0, 1]`, 0 if no sample was accepted. A score that is NaN makes it NaN.

    Raises:
        ValueError: If `threshold` is no number, if `y_true` is outside of `[0, 1]`, or if the shapes do not fit.

    Cost: one comparison per sample.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.SelectiveAccuracy()
    metric.update_state(np.array([1, 0, 1, 1]), np.array([0.5, 1.0, 2.0, -0.1]))
    accuracy = float(metric.result())  # 2 of 3
    ```

    Reference: Ran El-Yaniv and Yair Wiener, *On the Foundations of Noise-free Selective Classification*, JMLR
    2010.
    """

    def __init__(
        self,
        threshold: float = 0.0,
        name: str | None = "selective_accuracy",
        dtype: str | None = None,
    ):
        super().__init__(threshold, name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        right, score = align(y_true, y_pred)
        right, weight = (
            ops.cast(right, "float32"),
            position_weights(y_pred, right.shape, sample_weight),
        )
        outside = refuse(y_true, (right < 0) | (right > 1), weight, "1 for right and 0 for wrong")
        right = ops.where(outside, np.nan, right)
        self._add(right, self._accepted(score), y_pred, sample_weight)
