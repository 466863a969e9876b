"""Accuracy by group of samples, for models that shall be right in every group."""

import keras
import numpy as np
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
from keras_regularize.validation import check_integer, check_number


@export
class WorstGroupAccuracy(Configured, keras.metrics.Metric):
    r"""Accuracy in the group where it is lowest.

    $$\min_{g:\ W_g > 0}\ \frac{1}{W_g} \sum_{i:\, g_i = g} w_i\,[\hat y_i = y_i], \qquad
      W_g = \sum_{i:\, g_i = g} w_i,$$

    over all samples since the last reset. Groups without samples are ignored. In a model of this package the
    groups are the column `group` of `y={"label": y, "group": g}`; Keras' own models pass no columns to metrics,
    which is an error. `evaluate` of a model of this package with plain `y` leaves the metric alone. Samples with
    a group id outside the range belong to none and are not counted; with nothing counted the result is 0.

    Args:
        num_groups: Number of groups, at least 1; ids are 0 to `num_groups - 1`.
        threshold: Score above which the class is 1 where predictions are one score per sample: 0.5 for
            probabilities, 0 for logits. Not used with several columns.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of samples that do not count, such as -1 for unlabelled ones. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot rows `(batch, classes)`.
        y_pred: Probabilities or logits `(batch, classes)`, or one score per sample, `(batch,)` or `(batch, 1)`.
        sample_weight: Weights `(batch,)` or `(batch, 1)`, or a scalar. Samples of weight 0 do not count, nor do
            those that the mask of the predictions leaves out.
        group: Group ids `(batch,)` or `(batch, 1)`.

    Returns:
        `result()` is a float32 scalar between 0 and 1. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, there are no groups, labels are no classes, or the shapes
            of labels, predictions and groups do not fit.

    Cost: an argmax over the classes, and a sum by group.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.WorstGroupAccuracy(num_groups=2)
    metric.update_state([1, 0, 1, 0], np.array([0.9, 0.2, 0.4, 0.1]), group=[0, 0, 1, 1])
    float(metric.result())  # 0.5: all of group 0 is right, half of group 1
    ```

    Reference: Sagawa, Koh, Hashimoto and Liang, *Distributionally Robust Neural Networks for Group Shifts: On the
    Importance of Regularization for Worst-Case Generalization*, ICLR 2020, arXiv:1911.08731.
    """

    def __init__(
        self,
        num_groups: int,
        threshold: float = 0.5,
        name: str | None = "worst_group_accuracy",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_groups = check_integer("num_groups", num_groups, minimum=1)
        self.threshold = check_number("threshold", threshold)
        self.ignore_class = check_ignored(ignore_class)
        # Weight of the hits, and of all samples, by group; the last takes those of no group.
        self._sums = add_sums(self, (self.num_groups + 1, 2))

    def update_state(self, y_true, y_pred, sample_weight=None, group=None):
        """Adds samples."""
        pairs, group = _hits_and_weights(self, y_true, y_pred, sample_weight, group)
        inside = (group >= 0) & (group < self.num_groups)
        group = ops.where(inside, group, self.num_groups)
        accumulate(self._sums, segment_sums(pairs, group, self.num_groups + 1))

    def result(self):
        """The lowest accuracy of a group with samples."""
        sums = total(self._sums)[:-1]
        hits, weights = sums[:, 0], sums[:, 1]
        present = weights != 0
        accuracy = ops.where(present, hits / ops.where(present, weights, 1.0), np.inf)
        # A sum, since the smallest of numbers and NaN differs by backend.
        unknown = ops.sum(ops.where(present, 0.0 * hits, 0.0))
        return ops.where(ops.any(present), ops.min(accuracy) + unknown, 0.0)


@export
class GroupAccuracy(Configured, keras.metrics.Metric):
    r"""Accuracy in one group of samples; one metric per group draws a curve for each.

    $$\frac{\sum_{i:\, g_i = k} w_i\,[\hat y_i = y_i]}{\sum_{i:\, g_i = k} w_i}$$

    over all samples since the last reset, and 0 while there are none. Groups come as for `WorstGroupAccuracy`.

    Args:
        group: Id $k$ of the group, at least 0.
        threshold: Score above which the class is 1 where predictions are one score per sample: 0.5 for
            probabilities, 0 for logits. Not used with several columns.
        name: Name of the metric; `None` for `group_<k>_accuracy`.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of samples that do not count, such as -1 for unlabelled ones. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot rows `(batch, classes)`.
        y_pred: Probabilities or logits `(batch, classes)`, or one score per sample, `(batch,)` or `(batch, 1)`.
        sample_weight: Weights `(batch,)` or `(batch, 1)`, or a scalar. Samples of weight 0 do not count, nor do
            those that the mask of the predictions leaves out.
        group: Group ids `(batch,)` or `(batch, 1)`.

    Returns:
        `result()` is a float32 scalar between 0 and 1. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, there are no groups, labels are no classes, or the shapes
            of labels, predictions and groups do not fit.

    Cost: an argmax over the classes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.GroupAccuracy(group=1)
    metric.update_state([1, 0, 1, 0], np.array([0.9, 0.2, 0.4, 0.1]), group=[0, 0, 1, 1])
    float(metric.result())  # 0.5
    ```

    Reference: Sagawa, Koh, Hashimoto and Liang, *Distributionally Robust Neural Networks for Group Shifts: On the
    Importance of Regularization for Worst-Case Generalization*, ICLR 2020, arXiv:1911.08731.
    """

    def __init__(
        self,
        group: int,
        threshold: float = 0.5,
        name: str | None = None,
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        group = check_integer("group", group, minimum=0)
        super().__init__(name=name or f"group_{group}_accuracy", dtype=dtype)
        self.group = group
        self.threshold = check_number("threshold", threshold)
        self.ignore_class = check_ignored(ignore_class)
        self._sums = add_sums(
            self, (2, 2)
        )  # Weight of the hits and of all, in other groups and in this.

    def update_state(self, y_true, y_pred, sample_weight=None, group=None):
        """Adds samples."""
        pairs, group = _hits_and_weights(self, y_true, y_pred, sample_weight, group)
        member = ops.cast(ops.equal(group, self.group), "int32")
        accumulate(self._sums, segment_sums(pairs, member, 2))

    def result(self):
        """The accuracy in the group."""
        hits, weight = ops.unstack(total(self._sums)[1], 2)
        return ops.where(weight == 0, 0.0, hits / ops.where(weight == 0, 1.0, weight))


def _hits_and_weights(metric, y_true, y_pred, sample_weight, group):
    """The weight with which each sample was classified right, and its weight; group ids."""
    if group is None:
        raise ValueError(
            f"`{type(metric).__name__}` needs the group of every sample. Wrap the model, for example in "
            "`kr.models.RegularizedModel(model)`, and pass `y={'label': y, 'group': groups}`: Keras' own models "
            "hand no columns to metrics. Received: group=None"
        )
    scores = ops.convert_to_tensor(y_pred, dtype="float32")
    if len(scores.shape) == 1:
        scores = scores[:, None]
    if len(scores.shape) != 2:
        raise ValueError(
            "Accuracy by group needs one prediction per sample, (batch, classes). "
            f"Received: y_pred.shape={tuple(scores.shape)}"
        )
    if scores.shape[-1] == 1:
        scores = ops.concatenate([metric.threshold * ops.ones_like(scores), scores], axis=-1)
    weights = position_weights(y_pred, scores.shape[:1], sample_weight)
    labels, weights, outside = class_ids(y_true, scores, weights, metric.ignore_class)
    hits = ops.cast(ops.argmax(scores, axis=-1) == labels, "float32")
    unknown = ops.any(ops.isnan(scores), axis=-1)
    hits = ops.where(unknown if outside is None else unknown | outside, np.nan, hits)
    weights = ops.ones_like(hits) if weights is None else weights * ops.ones_like(scores[:, 0])

    group = ops.cast(group, "int32")
    shape, size = tuple(group.shape), scores.shape[0]
    if len(shape) == 2 and shape[-1] == 1:
        group = ops.squeeze(group, axis=-1)
    if len(group.shape) != 1 or None not in (shape[0], size) and shape[0] != size:
        raise ValueError(
            f"`group` must hold an id per sample, of shape ({size},). Received: group.shape={shape}"
        )
    return [leave_out(hits, weights), weights], group
