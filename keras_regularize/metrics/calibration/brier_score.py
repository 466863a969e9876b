"""The squared error of probabilities."""

import numpy as np
from keras import ops

from keras_regularize.labels import split_labels
from keras_regularize.metrics._samples import check_ignored, class_ids, position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.metrics.calibration._probabilities import class_probabilities
from keras_regularize.registration import export


@export
class BrierScore(WeightedMean):
    r"""Brier score: the squared error of the predicted probabilities, summed over the classes.

    $$\frac1n \sum_i \sum_k \big(p_{ik} - [y_i = k]\big)^2$$

    It is least, in expectation, at the true probabilities, and so measures calibration and accuracy in one; unlike
    the log-likelihood it forgives a probability of 0, at a cost of 2. `analysis.brier_decomposition` takes it
    apart. The sum over both of two classes is twice the `brier_score_loss` of scikit-learn.

    Args:
        from_logits: Whether `y_pred` are logits. They go through a softmax, or a sigmoid if there is one column.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of samples that do not count, such as -1. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`; or one-hot or soft rows `(batch, classes)`, with which
            the probabilities are compared as they are. Further axes before the classes are positions. An id that
            is no class is an error where it can be looked at; in compiled code the result is NaN.
        y_pred: Probabilities or logits `(batch, classes)`. A vector `(batch,)` or one column `(batch, 1)` is the
            score of class 1.
        sample_weight: Weights, a scalar, `(batch,)`, or one per position. Samples of weight 0 do not count, nor do
            those that the mask of the predictions leaves out.

    Returns:
        `result()` is a float32 scalar between 0 and 2, and 0 before the first sample. A prediction that is NaN
        makes it NaN.

    Raises:
        ValueError: If labels are no classes, or the shapes of labels, predictions and weights do not fit.

    Cost: a few passes over the predictions per update.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.BrierScore()
    metric.update_state([0, 1], np.array([[0.8, 0.1, 0.1], [0.5, 0.5, 0.0]]))
    brier = float(metric.result())  # The mean of 0.06 and 0.5.
    ```

    Reference: Glenn W. Brier, *Verification of Forecasts Expressed in Terms of Probability*, Monthly Weather
    Review 1950.
    """

    def __init__(
        self,
        from_logits: bool = False,
        name: str | None = "brier_score",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name, dtype)
        self.from_logits = bool(from_logits)
        self.ignore_class = check_ignored(ignore_class)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        p = class_probabilities(y_pred, self.from_logits)
        weight = position_weights(y_pred, p.shape[:-1], sample_weight)
        ids, weight, outside = class_ids(y_true, p, weight, self.ignore_class)
        _, rows = split_labels(y_true, p)
        if rows is None:
            # Not `one_hot`, which raises on PyTorch where an id is no class.
            rows = ops.cast(ids[..., None] == ops.arange(p.shape[-1], dtype="int32"), "float32")
        values = ops.sum(ops.square(p - rows), axis=-1)
        if outside is not None:
            values = ops.where(outside, np.nan, values)
        counted = ops.ones_like(values)
        self.add_values(values, counted if weight is None else weight * counted)
