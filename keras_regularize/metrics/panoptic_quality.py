"""Quality of panoptic segmentation: classes of pixels and the objects they belong to."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import check_ignored, leave_out, position_weights, refuse
from keras_regularize.metrics._segments import mean_of_classes
from keras_regularize.metrics._sums import accumulate, add_sums, total
from keras_regularize.registration import export
from keras_regularize.validation import check_integer

_LARGEST = 46339  # Pairs of segments are numbered in int32.


@export
class PanopticQuality(Configured, keras.metrics.Metric):
    r"""Panoptic quality: overlap of the segments that are found, less for each that is missed or invented.

    A segment is the pixels of an image with the same class and instance. One that is labelled and one predicted of
    the same class match if their intersection over union is more than ½, which holds for at most one pair. With
    the pairs $TP_c$ that match in any image, other predicted segments $FP_c$ and other labelled ones $FN_c$,

    $$\operatorname*{mean}_c \frac{\sum_{(y, p) \in TP_c} \operatorname{IoU}(y, p)}
      {|TP_c| + ½\, |FP_c| + ½\, |FN_c|}$$

    over the classes with segments of either kind; without any the result is 0. Pixels without a label do not count
    in unions, and a predicted segment that matches none and lies by more than half on them is no error.

    Args:
        num_classes: Number of classes, at least 1.
        max_instances: Instance ids are below it. Together with the number of classes at most 46339 segments.
        stuff: Classes without instances, such as the sky: their instance ids do not matter.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of pixels without a label, or without a prediction, such as 255.

    Call arguments:
        y_true: Pairs of a class and an instance id `(batch, *spatial, 2)`. Integers, or as floats.
        y_pred: The same, as predicted.
        sample_weight: Weights of images `(batch,)`, or a scalar. Of weights of pixels `(batch, *spatial)`, those
            of weight 0 do not count, and the largest is that of the image.

    Returns:
        `result()` is a float32 scalar between 0 and 1. A prediction that is NaN or has an id outside the range
        makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, labels are no ids, or shapes do not fit or have unknown
            sizes of space.

    Cost: a sort of the pixels of each image, and tables of all segments that can be.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.PanopticQuality(num_classes=3, max_instances=8, stuff=[0], ignore_class=255)
    y_true = np.stack([np.repeat([[0, 1, 1, 2]], 4, axis=0), np.repeat([[0, 1, 2, 1]], 4, axis=0)], -1)[None]
    metric.update_state(y_true, y_true)
    float(metric.result())  # 1.0
    ```

    Reference: Alexander Kirillov, Kaiming He, Ross Girshick, Carsten Rother, Piotr Dollár, *Panoptic
    Segmentation*, CVPR 2019, arXiv:1801.00868.
    """

    def __init__(
        self,
        num_classes: int,
        max_instances: int = 256,
        stuff: Sequence[int] = (),
        name: str | None = "panoptic_quality",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_classes = check_integer("num_classes", num_classes, minimum=1)
        self.max_instances = check_integer("max_instances", max_instances, minimum=1)
        if self.num_classes * self.max_instances > _LARGEST:
            raise ValueError(
                f"`num_classes * max_instances` must be at most {_LARGEST}. Received: "
                f"num_classes={num_classes}, max_instances={max_instances}"
            )
        self.stuff = [check_integer("stuff", c, 0, self.num_classes - 1) for c in stuff]
        self.ignore_class = check_ignored(ignore_class)
        # Overlaps, and matches with half of the errors, by class.
        self._sums = add_sums(self, (self.num_classes, 2))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the images of a batch."""
        shapes = [tuple(ops.shape(x)) for x in (y_true, y_pred)]
        space = tuple(ops.convert_to_tensor(y_pred).shape)[1:-1]
        fits = len(shapes[0]) == len(shapes[1]) and shapes[0][1:] == shapes[1][1:]
        if not fits or not space or None in space or shapes[1][-1] != 2:
            raise ValueError(
                "Expected pairs of class and instance ids (batch, *spatial, 2), with known sizes of space. "
                f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
            )
        pixels, void = math.prod(space), self.num_classes * self.max_instances
        weight = position_weights(
            y_pred, tuple(ops.convert_to_tensor(y_pred).shape[:-1]), sample_weight
        )

        def flat(x):
            return ops.reshape(x, (-1, pixels))

        (true, outside), (false, unknown) = self._segments(y_true), self._segments(y_pred)
        if weight is not None:
            weight = weight * ops.ones_like(ops.cast(true, "float32"))
        outside = refuse(
            y_true,
            outside,
            None if weight is None else weight[..., None],
            f"class ids from 0 to {self.num_classes - 1} and instance ids from 0 to {self.max_instances - 1}",
        )
        unknown = ops.any(ops.logical_or(unknown, outside), axis=-1)
        if weight is not None:
            counted = ops.not_equal(weight, 0)
            true, false = ops.where(counted, true, void), ops.where(counted, false, void)
            unknown = ops.any(flat(ops.logical_and(unknown, counted)), axis=-1)
            weight = ops.max(flat(weight), axis=-1)[:, None]
        else:
            unknown = ops.any(flat(unknown), axis=-1)
        overlaps, counts = self._overlaps_and_counts(flat(true), flat(false), void)
        overlaps = ops.where(unknown[:, None], float("nan"), overlaps)
        counts = ops.where(unknown[:, None], 1.0, counts)
        sums = [ops.sum(leave_out(x, weight), axis=0) for x in (overlaps, counts)]
        accumulate(self._sums, ops.stack(sums, axis=-1))

    def _segments(self, pairs):
        """Numbers of segments `(batch, *spatial)`, the last for no label; and which ids of a pair are none."""
        pairs = ops.convert_to_tensor(pairs)
        ids = ops.cast(pairs, "int32")
        classes, instances = ids[..., 0], ids[..., 1]
        for c in self.stuff:
            instances = ops.where(ops.equal(classes, c), 0, instances)
        ids = ops.stack([classes, instances], axis=-1)
        limits = ops.convert_to_tensor([self.num_classes, self.max_instances], dtype="int32")
        outside = ops.logical_or(ids < 0, ids >= limits)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(pairs.dtype)):
            fraction = ops.not_equal(ops.floor(pairs), pairs)  # Or NaN.
            outside = ops.logical_or(outside, fraction)
        if self.ignore_class is not None:
            known = ops.not_equal(classes, self.ignore_class)
            outside = ops.logical_and(outside, known[..., None])
        else:
            known = True
        segments = classes * self.max_instances + instances
        inside = ops.logical_and(known, ops.logical_not(ops.any(outside, axis=-1)))
        return ops.where(inside, segments, self.num_classes * self.max_instances), outside

    def _overlaps_and_counts(self, true, false, void):
        """Sums over the segments of an image, by class `(batch, classes)`, of segments `(batch, pixels)`."""
        one = ops.ones_like(ops.cast(true, "float32"))

        def table(values, ids, number):
            rows = ops.arange(ops.shape(ids)[0], dtype="int32")[:, None] * number
            sums = ops.segment_sum(
                ops.reshape(values, (-1,)),
                ops.reshape(rows + ids, (-1,)),
                num_segments=ops.shape(ids)[0] * number,
            )
            return ops.reshape(sums, (-1, number))

        def take(x, ids):
            return ops.take_along_axis(x, ids, axis=-1)

        areas, false_areas = table(one, true, void + 1), table(one, false, void + 1)
        unlabelled = table(ops.where(ops.equal(true, void), 1.0, 0.0), false, void + 1)
        # Runs of equal pairs, in order, are the intersections of segments.
        pairs = ops.sort(true * (void + 1) + false, axis=-1)
        first = ops.pad(
            ops.cast(ops.not_equal(pairs[:, 1:], pairs[:, :-1]), "int32"),
            ((0, 0), (1, 0)),
            constant_values=1,
        )
        run = ops.cumsum(first, axis=-1) - 1
        shared = take(table(one, run, true.shape[1]), run)
        true, false = pairs // (void + 1), pairs % (void + 1)
        union = take(areas, true) + take(false_areas, false) - shared - take(unlabelled, false)
        classes = true // self.max_instances
        candidate = ops.logical_and(
            ops.equal(first, 1),
            ops.logical_and(true < void, ops.equal(classes, false // self.max_instances)),
        )
        matched = ops.logical_and(candidate, 2.0 * shared > union)
        overlap = ops.where(matched, shared / ops.where(matched, union, 1.0), 0.0)
        overlaps = table(overlap, classes, self.num_classes + 1)[:, :-1]
        found = table(ops.cast(matched, "float32"), false, void + 1)
        counts = ops.logical_and(
            false_areas > 0, ops.logical_or(found > 0, 2.0 * unlabelled <= false_areas)
        )
        counts = ops.cast(areas > 0, "float32") + ops.cast(counts, "float32")
        counts = ops.reshape(counts[:, :-1], (-1, self.num_classes, self.max_instances))
        return overlaps, 0.5 * ops.sum(counts, axis=-1)

    def result(self):
        """The mean of the qualities of the classes that are there."""
        return mean_of_classes(total(self._sums))
