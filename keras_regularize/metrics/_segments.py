"""What metrics of segmentation read: the class of every pixel, as labelled and as predicted."""

import functools

from keras import ops

from keras_regularize.metrics._samples import class_ids, position_weights
from keras_regularize.ops.neighbours import boxed, cross, moved
from keras_regularize.scores import class_logits

_BEYOND = -2  # The id of what is not in the image.


def read_segments(metric, y_true, y_pred, sample_weight):
    """`(labels, predicted, weight, unknown)` of all pixels, `(batch, *spatial)`.

    Both ids are -1 where the weight is 0. `unknown` is set where a prediction is NaN or an id is no class, which
    has to make the result NaN. The metric has `num_classes`, `threshold` and `ignore_class`.
    """
    scores = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    if len(scores.shape) > 1 and scores.shape[-1] == 1:
        scores = class_logits(scores - metric.threshold)
    if len(scores.shape) < 2 or scores.shape[-1] != metric.num_classes:
        raise ValueError(
            f"Expected predictions of {metric.num_classes} classes, (batch, *spatial, classes). "
            f"Received: y_pred.shape={tuple(ops.convert_to_tensor(y_pred).shape)}"
        )
    weight = position_weights(y_pred, tuple(scores.shape[:-1]), sample_weight)
    labels, weight, outside = class_ids(y_true, scores, weight, metric.ignore_class)
    labels = ops.cast(labels, "int32")
    predicted = ops.cast(ops.argmax(scores, axis=-1), "int32")
    unknown = ops.any(ops.isnan(scores), axis=-1)
    unknown = unknown if outside is None else ops.logical_or(unknown, outside)
    if weight is None:
        weight = ops.ones_like(scores[..., 0])
    else:
        weight = weight * ops.ones_like(scores[..., 0])
        counted = ops.not_equal(weight, 0)
        labels, predicted = ops.where(counted, labels, -1), ops.where(counted, predicted, -1)
        unknown = ops.logical_and(unknown, counted)
    return labels, predicted, weight, unknown


def boundaries(ids, reach=None):
    """Zeros and ones `(batch, *spatial)`: pixels with another id, or the image's rim, near them.

    That is one of the nearest neighbours, or with `reach` any pixel of the box `2 * reach + 1` wide around.
    """
    space = tuple(ids.shape[1:])
    if not space or None in space:
        raise ValueError(
            "Expected masks of shape (batch, *spatial) with known sizes of space. "
            f"Received: shape={tuple(ids.shape)}"
        )
    ids = ids[:, None]
    if reach is None:
        near = [moved(ids, steps, fill=_BEYOND) for steps in cross(len(space))]
    else:
        near = [boxed(ids, reach, combine, _BEYOND) for combine in (ops.minimum, ops.maximum)]
    other = functools.reduce(ops.logical_or, [ops.not_equal(x, ids) for x in near])
    return ops.cast(other[:, 0], "float32")


def mean_of_classes(sums):
    """Mean of the ratios of sums `(classes, 2)`, over the classes whose second sum is not 0; 0 without any."""
    numerators, denominators = sums[:, 0], sums[:, 1]
    there = denominators != 0
    ratios = ops.where(there, numerators / ops.where(there, denominators, 1.0), 0.0)
    return ops.sum(ratios) / ops.maximum(ops.sum(ops.cast(there, "float32")), 1.0)
