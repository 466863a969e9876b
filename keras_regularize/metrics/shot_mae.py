"""Mean absolute error of the labels that are rare in training, of those that are frequent, and in between."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.metrics._samples import position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.registration import export
from keras_regularize.targets import align_targets
from keras_regularize.utils.bins import bin_labels, check_edges
from keras_regularize.validation import check_choice, check_number


@export
class ShotMAE(WeightedMean):
    r"""Mean absolute error on labels with many, with a medium number of, or with few training samples.

    $$\frac{\sum_{i \in R} w_i\, |\hat y_i - y_i|}{\sum_{i \in R} w_i},$$

    where $R$ are the samples whose label is in a bin of more than `many`, of fewer than `few`, or of `few` to
    `many` training samples. The mean over all samples hides how bad a regression is at rare labels. One metric for
    each
    region: `metrics=[kr.metrics.ShotMAE.from_labels(y, edges, shot) for shot in ("many", "medium", "few")]`.

    Args:
        edges: Ascending edges of the bins of labels, such as those of `kr.utils.bin_edges`.
        counts: Number of training samples in each bin, one less than edges.
        shot: `"many"`, `"medium"` or `"few"`.
        many: Bins above this count have many samples.
        few: Bins below this count have few; at most `many`.
        name: Name of the metric; by default `many_shot_mae` and so on.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Labels `(batch,)` or `(batch, 1)`; further axes are more of them.
        y_pred: Predictions of the same shape but for a last axis of size 1.
        sample_weight: Weights `(batch,)`, or of the shape of the labels. What weighs 0 does not count, nor does
            what the mask of the predictions leaves out.

    Returns:
        `result()` is a float32 scalar, 0 while no sample of the region has been seen.

    Raises:
        ValueError: If an argument is out of range, or shapes do not fit.

    Cost: a few passes over the labels.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.exponential(size=1000)
    metric = kr.metrics.ShotMAE.from_labels(y, kr.utils.bin_edges(y, 20), "few")
    metric.update_state(y, y + 0.5)
    float(metric.result())  # 0.5
    ```

    Reference: Yuzhe Yang, Kaiwen Zha, Ying-Cong Chen, Hao Wang and Dina Katabi, *Delving into Deep Imbalanced
    Regression*, ICML 2021, arXiv:2102.09554.
    """

    def __init__(
        self,
        edges: Sequence[float],
        counts: Sequence[int],
        shot: str = "few",
        many: float = 100,
        few: float = 20,
        name: str | None = None,
        dtype: str | None = None,
    ):
        self.shot = check_choice("shot", shot, ("many", "medium", "few"))
        super().__init__(name or f"{shot}_shot_mae", dtype)
        self.edges = check_edges(edges)
        self.counts = [int(count) for count in np.asarray(counts).ravel()]
        self.many = check_number("many", many, minimum=0)
        self.few = check_number("few", few, minimum=0, maximum=self.many)
        if len(self.counts) != len(self.edges) - 1 or min(self.counts) < 0:
            raise ValueError(
                "`counts` must be a number of samples for each of the "
                f"{len(self.edges) - 1} bins. Received: counts={counts!r}"
            )

    @classmethod
    def from_labels(cls, labels: Any, edges: Any, shot: str = "few", **kwargs: Any) -> "ShotMAE":
        """The metric for given labels of the training data."""
        bins = bin_labels(labels, edges)
        return cls(
            edges, np.bincount(bins.ravel(), minlength=len(edges) - 1).tolist(), shot, **kwargs
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        targets, predicted = align_targets(y_true, y_pred)
        weight = position_weights(y_pred, targets.shape, sample_weight)
        ones = ops.ones_like(targets, dtype="float32")
        weight = ones if weight is None else weight * ones
        counts = np.asarray(self.counts)
        regions = {
            "many": counts > self.many,
            "medium": (counts <= self.many) & (counts >= self.few),
            "few": counts < self.few,
        }
        inner = ops.convert_to_tensor(self.edges[1:-1], dtype=targets.dtype)
        # Not `searchsorted`, which differs by backend for what is no number.
        bins = ops.sum(ops.cast(targets[..., None] >= inner, "int32"), axis=-1)
        inside = ops.take(ops.convert_to_tensor(regions[self.shot].astype("float32")), bins)
        errors = ops.cast(ops.absolute(predicted - targets), "float32")
        self.add_values(errors, weight * inside)
