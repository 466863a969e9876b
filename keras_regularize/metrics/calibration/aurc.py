"""How well confidence ranks a classifier's mistakes."""

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import check_ignored
from keras_regularize.metrics.calibration._probabilities import class_samples
from keras_regularize.metrics.calibration._reservoir import Reservoir
from keras_regularize.numerics import xlogy
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class AURC(Configured, keras.metrics.Metric):
    r"""Area under the risk-coverage curve: the error rate of the most confident, over all shares of them.

    With samples in descending order of the confidence $\max_k p_{ik}$ and the mistakes
    $e_i = [\arg\max_k p_{ik} \ne y_i]$,

    $$\text{AURC} = \frac1n \sum_{k=1}^n \frac1k \sum_{i \le k} e_i .$$

    It is small if the model makes few mistakes and knows which: what a model that answers only when it is sure
    needs. A monotone change of the confidence leaves it as it is. `excess=True` takes off what the best order of
    the same mistakes would leave, $\hat e + (1 - \hat e)\ln(1 - \hat e)$ for the error rate $\hat e$ and many
    samples, so that models of different accuracy compare.

    Samples of equal confidence stay in the order in which they came. Weights $w_i$ count as shares of samples,
    $\sum_k w_k \big(\sum_{i \le k} w_i e_i / \sum_{i \le k} w_i\big) / \sum_k w_k$.

    The order needs the samples themselves: the metric keeps up to `capacity` of them. It is exact while they all
    fit; beyond, it is the value of a uniform random subset of that size, chosen by reservoir sampling.

    Args:
        from_logits: Whether `y_pred` are logits. They go through a softmax, or a sigmoid if there is one column.
        excess: Whether to take off the area of the best order.
        capacity: Number of samples kept, a positive integer.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of samples that do not count, such as -1. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`, of which the
            largest entry is the label. Further axes before the classes are positions. An id that is no class is
            an error where it can be looked at; in compiled code the result is NaN.
        y_pred: Probabilities or logits `(batch, classes)`. A vector `(batch,)` or one column `(batch, 1)` is the
            score of class 1.
        sample_weight: Weights, a scalar, `(batch,)`, or one per position. Samples of weight 0 do not count, nor do
            those that the mask of the predictions leaves out.

    Returns:
        `result()` is a float32 scalar between 0 and 1, and 0 before the first sample. A prediction that is NaN
        makes it NaN. With few samples the excess of the best order is a little above 0.

    Raises:
        ValueError: If an argument is out of its range, if labels are no classes, or if the shapes of labels,
            predictions and weights do not fit.

    Cost: a few passes over the predictions per update; one sort of `capacity` numbers per result. With
    `tf.distribute` it sees the samples of the first replica.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.AURC()
    metric.update_state([1, 1, 0, 1], np.array([0.9, 0.8, 0.7, 0.4]))  # Probabilities of class 1.
    aurc = float(metric.result())  # The mean of 0, 0, 1/3 and 2/4.
    ```

    Reference: Yonatan Geifman, Guy Uziel and Ran El-Yaniv, *Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers*, ICLR 2019, arXiv:1805.08206.
    """

    def __init__(
        self,
        from_logits: bool = False,
        excess: bool = False,
        capacity: int = 10_000,
        name: str | None = "aurc",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.from_logits = bool(from_logits)
        self.excess = bool(excess)
        self.capacity = check_integer("capacity", capacity, minimum=1)
        self.ignore_class = check_ignored(ignore_class)
        self._reservoir = Reservoir(self, self.capacity, 3)  # Weight, confidence, mistake.

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        p, ids, weight = class_samples(
            y_true, y_pred, sample_weight, self.from_logits, self.ignore_class
        )
        confidence, predicted, ids = backend.looked_at([*backend.largest(p), ids])
        mistake = ops.cast(predicted != ids, "float32")
        mistake = ops.where(ops.isnan(confidence), np.nan, mistake)
        weight = ops.ones_like(confidence) if weight is None else weight
        self._reservoir.add([weight, confidence, mistake], weight > 0)

    def result(self):
        """The area of the samples so far."""
        rows = self._reservoir.rows()
        # Empty places have weight 0 wherever they are.
        weight, _, mistake = ops.unstack(ops.take(rows, ops.argsort(-rows[:, 1]), axis=0), 3, 1)
        covered, mistakes = ops.cumsum(weight), ops.cumsum(weight * mistake)
        risk = mistakes / ops.where(covered > 0, covered, 1.0)
        total = ops.where(covered[-1] > 0, covered[-1], 1.0)
        area = ops.sum(weight * risk) / total
        if self.excess:
            rate = mistakes[-1] / total
            area = area - (rate + xlogy(1.0 - rate, 1.0 - rate))
        return area
