"""What counts in a metric: weights, the mask of Keras, and labels that are classes."""

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import split_labels
from keras_regularize.masks import keras_mask
from keras_regularize.validation import check_integer


def check_ignored(ignore_class):
    """`ignore_class` as Keras' losses take it: an integer or `None`."""
    return check_integer("ignore_class", ignore_class, optional=True)


def position_weights(y_pred, shape, sample_weight):
    """Float32 weights that fit values of the given static shape, or `None` if all count alike.

    They are the sample weights, times the mask that predictions carry, as Keras' own metrics read it. Must be
    given the predictions as they came: the mask is an attribute, lost by any operation.
    """
    weight = None
    for factor in (sample_weight, keras_mask(y_pred)):
        if factor is not None:
            factor = aligned_weights(ops.cast(factor, "float32"), shape)
            weight = factor if weight is None else weight * factor
    return weight


def aligned_weights(weight, shape):
    """Weights `(batch,)` or `(…, 1)` in the rank of values per position of the given static shape."""
    given, rank = tuple(weight.shape), len(shape)
    if len(given) == rank + 1 and given[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    elif 0 < len(given) < rank:
        weight = ops.expand_dims(weight, axis=tuple(range(len(given), rank)))
    fits = len(weight.shape) in (0, rank) and all(
        a is None or b is None or a in (1, b) for a, b in zip(weight.shape, shape)
    )
    if not fits:
        raise ValueError(
            f"Expected weights, or a mask, that fit values of shape {tuple(shape)}. Received: shape={given}"
        )
    return weight


def leave_out(values, weight):
    """Weighted values: 0 where the weight is, whatever the value; not a number is otherwise not hidden."""
    return values if weight is None else ops.where(weight != 0, values, 0.0) * weight


def class_ids(y_true, scores, weight, ignore_class=None):
    """`(ids, weight, outside)` of labels of class scores `(…, classes)`.

    The weight is 0 where the label is the one to ignore. An id that is no class raises if it can be looked at
    and counts; else `outside` is set there, and has to make the result NaN. `outside` is `None` if all are fine.
    """
    ids, rows = split_labels(y_true, scores)
    if ids is None:
        if ignore_class is not None:
            raise ValueError(
                "`ignore_class` needs labels that are integer ids; leave samples with one-hot or soft rows out "
                f"by their weights. Received: ignore_class={ignore_class}, y_true.shape={tuple(rows.shape)}"
            )
        return ops.cast(ops.argmax(rows, axis=-1), "int32"), weight, None
    if ignore_class is not None:
        counted = ops.not_equal(ids, ignore_class)
        weight = ops.cast(counted, "float32") * (1.0 if weight is None else weight)
    classes, given = scores.shape[-1], backend.peek(y_true)
    if given is not None and _are_classes(given, classes):
        return ids, weight, None
    y_true = ops.convert_to_tensor(y_true)
    outside = ops.logical_or(ids < 0, ids >= classes)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(y_true.dtype)):
        labels = ops.reshape(y_true, ops.shape(ids))  # Fractions and NaN are no classes.
        outside = ops.logical_or(outside, ops.not_equal(ops.cast(ids, labels.dtype), labels))
    outside = refuse(y_true, outside, weight, f"class ids from 0 to {classes - 1}")
    return ids, weight, outside


def refuse(y_true, outside, weight, expected):
    """Where labels that count are `outside` of what is expected; raises if some are, and can be looked at."""
    if weight is not None:
        outside = ops.logical_and(outside, ops.not_equal(weight, 0))
    given, seen = backend.peek(ops.convert_to_tensor(y_true)), backend.peek(outside)
    if given is not None and seen is not None and seen.any():
        wrong = ", ".join(map(str, np.unique(np.ravel(given)[np.ravel(seen)])[:5]))
        raise ValueError(
            f"Expected labels to be {expected}. Received: y_true with {wrong}. Samples without a label, with "
            "ids such as -1 or 255, are left out by `ignore_class=` or a weight of 0."
        )
    return outside


def _are_classes(ids, classes):
    if not ids.size:
        return True
    inside = ids.min() >= 0 and ids.max() < classes
    return inside and (ids.dtype.kind in "biu" or bool((ids == np.trunc(ids)).all()))
