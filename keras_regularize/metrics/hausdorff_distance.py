"""The Hausdorff distance of segmented objects, without the farthest pixels."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import check_ignored, leave_out
from keras_regularize.metrics._segments import boundaries, mean_of_classes, read_segments
from keras_regularize.metrics._sums import accumulate, add_sums, total
from keras_regularize.ops import euclidean_distance_transform
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class HausdorffDistance95(Configured, keras.metrics.Metric):
    r"""Distance within which 95 % of the boundary of a mask lie from that of its prediction, and the reverse.

    With the boundary pixels $\partial Y$ of a class in an image, those with a nearest neighbour that is not of the
    class or beyond the image, $\partial P$ of its prediction and the Euclidean distance $d$,

    $$\max\Big(\operatorname*{P_{95}}_{i \in \partial P} \min_{j \in \partial Y} d(i, j),\
      \operatorname*{P_{95}}_{j \in \partial Y} \min_{i \in \partial P} d(i, j)\Big),$$

    with percentiles interpolated linearly. Where a class is either only labelled or only predicted the distance is
    the length of the image's diagonal; where it is neither, the image does not count. The result is the mean over
    classes of the mean over the images that count, 0 without any. Smaller is better.

    Args:
        num_classes: Number of classes, at least 2.
        threshold: Score above which the class is 1 where predictions have a single channel: 0.5 for probabilities,
            0 for logits. Not used with several.
        include_background: Whether class 0 counts in the mean.
        sampling: Size of a pixel along each axis of space, in the unit of the result, or `None` for 1.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of pixels that belong to no mask, such as 255. For ids only.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or `(batch, *spatial, 1)`, or one-hot rows `(batch, *spatial,
            classes)`.
        y_pred: Probabilities or logits `(batch, *spatial, classes)`, or `(batch, *spatial, 1)` for two classes.
        sample_weight: Weights of images `(batch,)`, or a scalar. Of weights of pixels `(batch, *spatial)`, those
            of weight 0 belong to no mask, and the largest is that of the image.

    Returns:
        `result()` is a float32 scalar of at least 0. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, predictions have another number of classes, labels are no
            classes, or shapes do not fit or have unknown sizes of space.

    Cost: two distance transforms and two sorts of each image for every class.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.HausdorffDistance95(num_classes=3, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    metric.update_state(y_true, np.random.normal(size=(2, 16, 16, 3)))
    float(metric.result())
    ```

    Reference: Lena Maier-Hein, Annika Reinke and others, *Metrics reloaded: recommendations for image analysis
    validation*, Nature Methods 2024, arXiv:2206.01653.
    """

    def __init__(
        self,
        num_classes: int,
        threshold: float = 0.5,
        include_background: bool = False,
        sampling: Sequence[float] | None = None,
        name: str | None = "hausdorff_distance_95",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.threshold = check_number("threshold", threshold)
        self.include_background = bool(include_background)
        self.sampling = None
        if sampling is not None:
            self.sampling = [check_number("sampling", size, above=0) for size in sampling]
        self.ignore_class = check_ignored(ignore_class)
        # Distances and weights, by class.
        self._sums = add_sums(self, (self.num_classes, 2))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the images of a batch."""
        labels, predicted, weight, unknown = read_segments(self, y_true, y_pred, sample_weight)
        edges = [(ids, boundaries(ids)) for ids in (labels, predicted)]
        space = tuple(labels.shape[1:])
        pixel = self.sampling or [1.0] * len(space)
        diagonal = math.hypot(*(size * number for size, number in zip(pixel, space)))
        pixels = math.prod(space)

        def flat(x):
            return ops.reshape(x, (-1, pixels))

        weight, unknown = ops.max(flat(weight), axis=-1), ops.any(flat(unknown), axis=-1)
        rows = []
        for c in range(self.num_classes):
            true, false = (ops.where(ops.equal(ids, c), edge, 0.0) for ids, edge in edges)
            sizes = ops.sum(flat(true), axis=-1), ops.sum(flat(false), axis=-1)
            both = ops.logical_and(sizes[0] > 0, sizes[1] > 0)
            distance = ops.maximum(
                self._percentile(flat(true), flat(self._distances(false))),
                self._percentile(flat(false), flat(self._distances(true))),
            )
            distance = ops.where(both, distance, diagonal)
            distance = ops.where(unknown, float("nan"), distance)
            present = ops.where(ops.logical_or(sizes[0] > 0, sizes[1] > 0), weight, 0.0)
            present = ops.where(unknown, weight, present)
            rows.append([ops.sum(leave_out(distance, present)), ops.sum(present)])
        accumulate(self._sums, ops.stack([ops.stack(row) for row in rows]))

    def _distances(self, boundary):
        return euclidean_distance_transform(1.0 - boundary, self.sampling)

    def _percentile(self, members, values):
        """Of the values of the members `(batch, pixels)`, of which there is at least one if it is used."""
        ordered = ops.sort(ops.where(members > 0, values, float("inf")), axis=-1)
        position = 0.95 * ops.maximum(ops.sum(members, axis=-1, keepdims=True) - 1.0, 0.0)
        below = ops.floor(position)
        low, high = (
            ops.take_along_axis(ordered, ops.cast(i, "int32"), axis=-1)[:, 0]
            for i in (below, ops.ceil(position))
        )
        return low + (position - below)[:, 0] * (high - low)

    def result(self):
        """The mean of the classes' means."""
        return mean_of_classes(total(self._sums)[0 if self.include_background else 1 :])
