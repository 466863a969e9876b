"""The Dice coefficient of hard predictions over a whole data set."""

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import check_ignored, leave_out
from keras_regularize.metrics._segments import mean_of_classes, read_segments
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total
from keras_regularize.registration import export
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

    Reference: Lee R. Dice, *Measures of the Amount of Ecologic Association Between Species*, Ecology 1945.
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
        labels, predicted, weight, unknown = read_segments(self, y_true, y_pred, sample_weight)
        ones = leave_out(ops.where(unknown, float("nan"), ops.ones_like(weight)), weight)
        hits = ops.where(ops.equal(labels, predicted), ones, 0.0 * ones)

        def flat(x):
            return ops.reshape(x, (-1,))

        ones, hits = flat(ones), flat(hits)
        by_label = segment_sums([2.0 * hits, ones], flat(labels), self.num_classes)
        by_prediction = segment_sums([0.0 * ones, ones], flat(predicted), self.num_classes)
        accumulate(self._sums, by_label + by_prediction)

    def result(self):
        """The mean of the coefficients of the classes that are there."""
        return mean_of_classes(total(self._sums)[0 if self.include_background else 1 :])
