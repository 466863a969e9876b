"""The Dice coefficient of hard predictions over a whole data set."""

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import (
    check_ignored,
    class_ids,
    leave_out,
    position_weights,
)
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total
from keras_regularize.registration import export
from keras_regularize.scores import class_logits
from keras_regularize.validation import check_integer, check_number


@export
class DiceScore(Configured, keras.metrics.Metric):
    r"""Dice coefficient of predicted classes, from counts over all pixels since the last reset.

    With the weighted counts of pixels of class $c$ that are predicted so, $TP_c$, of false alarms and of misses,

    $$\operatorname*{mean}_{c} \frac{2\, TP_c}{2\, TP_c + FP_c + FN_c}$$

    over the classes that are present or predicted anywhere; others have no score, and without any the result is 0.
    It is a monotone function of `keras.metrics.MeanIoU` class by class, and the F1 score of each class.

    Args:
        num_classes: Number of classes, at least 2.
        threshold: Score above which the class is 1 where predictions have a single channel: 0.5 for probabilities,
            0 for logits. Not used with several.
        include_background: Whether class 0 counts in the mean.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of pixels that do not count, such as 255. For ids only.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or `(batch, *spatial, 1)`, or one-hot rows `(batch, *spatial,
            classes)`.
        y_pred: Probabilities or logits `(batch, *spatial, classes)`, or `(batch, *spatial, 1)` for two classes.
        sample_weight: Weights `(batch,)` or `(batch, *spatial)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar between 0 and 1. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, predictions have another number of classes, labels are no
            classes, or shapes do not fit.

    Cost: an argmax over the classes, and two sums by class.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.DiceScore(num_classes=3, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    metric.update_state(y_true, np.random.normal(size=(2, 16, 16, 3)))
    float(metric.result())
    ```

    Reference: Lee R. Dice, *Measures of the Amount of Ecologic Association Between Species*, Ecology 26, 1945.
    """

    def __init__(
        self,
        num_classes: int,
        threshold: float = 0.5,
        include_background: bool = True,
        name: str | None = "dice_score",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.threshold = check_number("threshold", threshold)
        self.include_background = bool(include_background)
        self.ignore_class = check_ignored(ignore_class)
        # Twice the hits, and the pixels of the class and those predicted, by class.
        self._sums = add_sums(self, (self.num_classes, 2))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the pixels of a batch."""
        scores = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        if len(scores.shape) > 1 and scores.shape[-1] == 1:
            scores = class_logits(scores - self.threshold)
        if len(scores.shape) < 2 or scores.shape[-1] != self.num_classes:
            raise ValueError(
                f"Expected predictions of {self.num_classes} classes, (batch, *spatial, classes). "
                f"Received: y_pred.shape={tuple(ops.convert_to_tensor(y_pred).shape)}"
            )
        weight = position_weights(y_pred, tuple(scores.shape[:-1]), sample_weight)
        ids, weight, outside = class_ids(y_true, scores, weight, self.ignore_class)
        unknown = ops.any(ops.isnan(scores), axis=-1)
        unknown = unknown if outside is None else ops.logical_or(unknown, outside)
        predicted = ops.cast(ops.argmax(scores, axis=-1), "int32")
        ids = ops.cast(ids, "int32")
        one = ops.where(unknown, float("nan"), ops.ones_like(scores[..., 0]))
        hit = ops.where(ops.equal(ids, predicted), one, 0.0 * one)
        if weight is not None:
            ids = ops.where(ops.equal(weight, 0), 0, ids)
        one, hit = leave_out(one, weight), leave_out(hit, weight)

        def flat(x):
            return ops.reshape(x, (-1,))

        ones, hits = flat(one * ops.ones_like(hit)), flat(hit)
        by_label = segment_sums([2.0 * hits, ones], flat(ids), self.num_classes)
        by_prediction = segment_sums([0.0 * ones, ones], flat(predicted), self.num_classes)
        accumulate(self._sums, by_label + by_prediction)

    def result(self):
        """The mean of the coefficients of the classes that are there."""
        sums = total(self._sums)[0 if self.include_background else 1 :]
        hits, sizes = sums[:, 0], sums[:, 1]
        there = sizes != 0
        scores = ops.where(there, hits / ops.where(there, sizes, 1.0), 0.0)
        return ops.sum(scores) / ops.maximum(ops.sum(ops.cast(there, "float32")), 1.0)
