"""Accuracy by group of samples, for models that shall be right in every group."""

from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_integer, check_number
from keras_regularize.labels import split_labels
from keras_regularize.numerics import upcast


@export
class WorstGroupAccuracy(keras.metrics.Metric):
    r"""Accuracy in the group where it is lowest.

    $$\min_{g:\ W_g > 0}\ \frac{1}{W_g} \sum_{i:\, g_i = g} w_i\,[\hat y_i = y_i], \qquad
      W_g = \sum_{i:\, g_i = g} w_i,$$

    over all samples since the last reset. Groups without samples are ignored. In a model of this package the
    groups are the column `group` of `y={"label": y, "group": g}`; Keras' own models pass no columns to metrics.
    Samples given without groups (plain `y` in `evaluate`), or with an id outside the range, belong to none and
    are not counted; with nothing counted the result is 0.

    Args:
        num_groups: Number of groups, at least 1; ids are 0 to `num_groups - 1`.
        threshold: Score above which the class is 1 where predictions are one score per sample: 0.5 for
            probabilities, 0 for logits. Not used with several columns.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot rows `(batch, classes)`.
        y_pred: Probabilities or logits `(batch, classes)`, or one score per sample, `(batch,)` or `(batch, 1)`.
        sample_weight: Weights `(batch,)` or `(batch, 1)`, or a scalar.
        group: Group ids `(batch,)` or `(batch, 1)`, or `None`.

    Returns:
        `result()` is a float32 scalar between 0 and 1.

    Raises:
        ValueError: If an argument is out of its range, or the shapes of labels and predictions do not fit.

    Cost: an argmax over the classes, and a product of the batch with `num_groups` columns.

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
    ):
        super().__init__(name=name, dtype=dtype)
        check_integer("num_groups", num_groups, minimum=1)
        check_number("threshold", threshold)
        self.num_groups = int(num_groups)
        self.threshold = float(threshold)
        # Weight of the hits, and of all samples, by group.
        self._sums = self.add_variable((2, self.num_groups), "zeros", "float32", name="sums")

    def update_state(self, y_true, y_pred, sample_weight=None, group=None):
        """Adds samples."""
        if group is None:
            return
        hits, weights = _hits_and_weights(y_true, y_pred, sample_weight, self.threshold)
        group = ops.cast(ops.reshape(group, (-1, 1)), "int32")
        member = ops.cast(group == ops.arange(self.num_groups, dtype="int32"), "float32")
        self._sums.assign_add(ops.matmul(ops.stack([weights * hits, weights]), member))

    def result(self):
        """The lowest accuracy of a group with samples."""
        hits, weights = self._sums.value[0], self._sums.value[1]
        present = weights > 0
        lowest = ops.min(ops.where(present, hits / ops.where(present, weights, 1.0), 1.0))
        return ops.where(ops.any(present), lowest, 0.0)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "num_groups": self.num_groups, "threshold": self.threshold}


@export
class GroupAccuracy(keras.metrics.Metric):
    r"""Accuracy in one group of samples; one metric per group draws a curve for each.

    $$\frac{\sum_{i:\, g_i = k} w_i\,[\hat y_i = y_i]}{\sum_{i:\, g_i = k} w_i}$$

    over all samples since the last reset, and 0 while there are none. Groups come as for `WorstGroupAccuracy`:
    samples given without them are not counted.

    Args:
        group: Id $k$ of the group, at least 0.
        threshold: Score above which the class is 1 where predictions are one score per sample: 0.5 for
            probabilities, 0 for logits. Not used with several columns.
        name: Name of the metric; `None` for `group_<k>_accuracy`.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot rows `(batch, classes)`.
        y_pred: Probabilities or logits `(batch, classes)`, or one score per sample, `(batch,)` or `(batch, 1)`.
        sample_weight: Weights `(batch,)` or `(batch, 1)`, or a scalar.
        group: Group ids `(batch,)` or `(batch, 1)`, or `None`.

    Returns:
        `result()` is a float32 scalar between 0 and 1.

    Raises:
        ValueError: If an argument is out of its range, or the shapes of labels and predictions do not fit.

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
    ):
        check_integer("group", group, minimum=0)
        check_number("threshold", threshold)
        super().__init__(name=name or f"group_{group}_accuracy", dtype=dtype)
        self.group = int(group)
        self.threshold = float(threshold)
        self._sums = self.add_variable((2,), "zeros", "float32", name="sums")

    def update_state(self, y_true, y_pred, sample_weight=None, group=None):
        """Adds samples."""
        if group is None:
            return
        hits, weights = _hits_and_weights(y_true, y_pred, sample_weight, self.threshold)
        group = ops.cast(ops.reshape(group, (-1,)), "int32")
        weights = ops.where(group == self.group, weights, 0.0)
        self._sums.assign_add(ops.stack([ops.sum(weights * hits), ops.sum(weights)]))

    def result(self):
        """The accuracy in the group."""
        weight = self._sums.value[1]
        return self._sums.value[0] / ops.where(weight > 0, weight, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "group": self.group, "threshold": self.threshold}


def _hits_and_weights(y_true, y_pred, sample_weight, threshold):
    """Whether each sample is classified right, and its weight, `(batch,)` in float32."""
    scores = upcast(y_pred)
    if len(scores.shape) == 1:
        scores = scores[:, None]
    if scores.shape[-1] == 1:
        scores = ops.concatenate([threshold * ops.ones_like(scores), scores], axis=-1)
    labels, rows = split_labels(y_true, scores)
    if labels is None:
        labels = ops.cast(ops.argmax(rows, axis=-1), "int32")
    hits = ops.cast(ops.cast(ops.argmax(scores, axis=-1), "int32") == labels, "float32")
    if len(hits.shape) != 1:
        raise ValueError(
            "Accuracy by group needs one prediction per sample, (batch, classes). "
            f"Received: y_pred.shape={tuple(scores.shape)}"
        )
    weights = ops.ones_like(hits)
    if sample_weight is not None:
        given = ops.cast(sample_weight, "float32")
        weights = weights * (ops.reshape(given, (-1,)) if len(given.shape) else given)
    return hits, weights
