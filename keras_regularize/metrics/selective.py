"""How much a model that may abstain answers, and how well."""

from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.labels import align
from keras_regularize.metrics._weights import aligned_weights


class _Selective(keras.metrics.Metric):
    """A weighted mean over samples: a numerator and a denominator."""

    def __init__(self, threshold, name, dtype):
        super().__init__(name=name, dtype=dtype)
        check_number("threshold", threshold)
        self.threshold = float(threshold)
        self._numerator = self.add_weight(name="numerator", initializer="zeros", dtype="float32")
        self._denominator = self.add_weight(
            name="denominator", initializer="zeros", dtype="float32"
        )

    def _add(self, values, weights, sample_weight):
        if sample_weight is not None:
            given = ops.cast(sample_weight, weights.dtype)
            weights = weights * aligned_weights(given, len(weights.shape))
        self._numerator.assign_add(ops.cast(ops.sum(weights * values), "float32"))
        self._denominator.assign_add(ops.cast(ops.sum(weights), "float32"))

    def result(self):
        """The metric of the samples so far."""
        total = self._denominator.value
        return ops.where(total > 0, self._numerator / ops.where(total > 0, total, 1.0), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


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
        sample_weight: Weights of the same shape.

    Returns:
        `result()` is a float32 scalar in `[0, 1]`, 0 before the first sample.

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
    11, 2010.
    """

    def __init__(
        self, threshold: float = 0.0, name: str | None = "coverage", dtype: str | None = None
    ):
        super().__init__(threshold, name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        right, score = align(y_true, y_pred)
        accepted = ops.cast(score > self.threshold, score.dtype)
        self._add(accepted, ops.ones_like(right), sample_weight)


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
        sample_weight: Weights of the same shape.

    Returns:
        `result()` is a float32 scalar in `[0, 1]`, 0 if no sample was accepted.

    Raises:
        ValueError: If `threshold` is no number, or if the shapes do not fit.

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
    11, 2010.
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
        accepted = ops.cast(score > self.threshold, score.dtype)
        self._add(right, accepted, sample_weight)
