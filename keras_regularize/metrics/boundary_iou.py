"""Intersection over union of the pixels near a boundary."""

import math

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import check_ignored, leave_out
from keras_regularize.metrics._segments import boundaries, mean_of_classes, read_segments
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class BoundaryIoU(Configured, keras.metrics.Metric):
    r"""Intersection over union of those pixels of masks that are near their boundary.

    With the pixels $Y_c$ of a class, $P_c$ of its prediction and those $Y_c^d$, $P_c^d$ of them that have a pixel
    not of the mask within $d$ steps along and across the axes, also beyond the image,

    $$\operatorname*{mean}_{c} \frac{|Y_c^d \cap P_c^d|}{|Y_c^d \cup P_c^d|},$$

    from counts over all images since the last reset and over the classes that are present or predicted anywhere;
    without any the result is 0. The distance $d$ is a share of the image's diagonal. Large objects, whose inside
    is most of `keras.metrics.MeanIoU`, are judged by their outline here; for small ones both are the same.

    Args:
        num_classes: Number of classes, at least 2.
        dilation_ratio: $d$ as a share of the image's diagonal, above 0; it is rounded, and at least 1 pixel.
        threshold: Score above which the class is 1 where predictions have a single channel: 0.5 for probabilities,
            0 for logits. Not used with several.
        include_background: Whether class 0 counts in the mean.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of pixels that belong to no mask, such as 255. For ids only.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or `(batch, *spatial, 1)`, or one-hot rows `(batch, *spatial,
            classes)`.
        y_pred: Probabilities or logits `(batch, *spatial, classes)`, or `(batch, *spatial, 1)` for two classes.
        sample_weight: Weights `(batch,)` or `(batch, *spatial)`, or a scalar. What has weight 0 is in no mask.

    Returns:
        `result()` is a float32 scalar between 0 and 1. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, predictions have another number of classes, labels are no
            classes, or shapes do not fit or have unknown sizes of space.

    Cost: an argmax over the classes, and about $4 \log_2 d$ comparisons per pixel and axis.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.BoundaryIoU(num_classes=3, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    metric.update_state(y_true, np.random.normal(size=(2, 16, 16, 3)))
    float(metric.result())
    ```

    Reference: Bowen Cheng, Ross Girshick, Piotr Dollár, Alexander C. Berg, Alexander Kirillov, *Boundary IoU:
    Improving Object-Centric Image Segmentation Evaluation*, CVPR 2021, arXiv:2103.16562.
    """

    def __init__(
        self,
        num_classes: int,
        dilation_ratio: float = 0.02,
        threshold: float = 0.5,
        include_background: bool = True,
        name: str | None = "boundary_iou",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.dilation_ratio = check_number("dilation_ratio", dilation_ratio, above=0, maximum=1)
        self.threshold = check_number("threshold", threshold)
        self.include_background = bool(include_background)
        self.ignore_class = check_ignored(ignore_class)
        # Pixels in both boundaries and in either, by class.
        self._sums = add_sums(self, (self.num_classes, 2))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the pixels of a batch."""
        labels, predicted, weight, unknown = read_segments(self, y_true, y_pred, sample_weight)
        space = tuple(labels.shape[1:])
        reach = 1
        if None not in space:
            reach = max(1, round(self.dilation_ratio * math.hypot(*space)))
        one = ops.where(unknown, float("nan"), ops.ones_like(weight))
        true, false = (
            leave_out(one * boundaries(ids, reach), weight) for ids in (labels, predicted)
        )
        both = ops.where(ops.logical_and(ops.equal(labels, predicted), false != 0), true, 0.0)

        def flat(x):
            return ops.reshape(x, (-1,))

        by_label = segment_sums([flat(both), flat(true - both)], flat(labels), self.num_classes)
        by_prediction = segment_sums(
            [flat(0.0 * both), flat(false)], flat(predicted), self.num_classes
        )
        accumulate(self._sums, by_label + by_prediction)

    def result(self):
        """The mean of the ratios of the classes that are there."""
        return mean_of_classes(total(self._sums)[0 if self.include_background else 1 :])
