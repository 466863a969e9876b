"""Class labels in the forms Keras users pass them, told apart in one place."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import upcast
from keras_regularize.validation import compatible


class Labels(NamedTuple):
    """Class labels that have been read: what takes labels here takes these as well.

    Attributes:
        ids: Integers `(…)`, each of them a class; or `None`.
        rows: One-hot or soft rows `(…, classes)`, where ids were not given.
        outside: Bools `(…)`: the given id is no class, and `ids` has a 0 in its place. `None` if there is no such.
        counted: Bools `(…)`, unset where the label is the one to ignore. `None` if all count.
        known: The labels as an array, if they could be looked at: some are wrong then if `outside` is not `None`.
    """

    ids: Any
    rows: Any
    outside: Any = None
    counted: Any = None
    known: Any = None


def split_labels(y_true, y_pred):
    """`(ids, None)` for integer ids or `(None, rows)` for one-hot or soft rows, as they are.

    `y_pred` is `(…, classes)`. Ids are `(…)` or `(…, 1)`, rows `(…, classes)`; the static shapes decide.
    """
    if isinstance(y_true, Labels):
        return y_true.ids, y_true.rows
    y_true = y_true if ops.is_tensor(y_true) else ops.convert_to_tensor(y_true)
    y_true, is_rows = _form(y_true, y_pred)
    if is_rows:
        return None, ops.cast(y_true, upcast(y_pred).dtype)
    return ops.cast(y_true, "int32"), None


def _form(y_true, y_pred):
    """`(ids (…), False)` or `(rows, True)`, in their own dtype."""
    classes, rank = number_of_classes(y_pred), len(y_pred.shape)
    leading, given = tuple(y_pred.shape[:-1]), tuple(y_true.shape)
    if compatible(given, leading):
        return y_true, False
    if len(given) == rank and compatible(given[:-1], leading):
        if given[-1] == classes:
            return y_true, True
        if given[-1] == 1:
            return ops.squeeze(y_true, axis=-1), False
    raise ValueError(
        "Expected class labels as integer ids of shape (batch,) or (batch, 1), or one-hot or soft rows of "
        f"shape (batch, classes). Received: y_true.shape={given} for y_pred.shape={tuple(y_pred.shape)}"
    )


def number_of_classes(y_pred):
    """Size of the last axis of predictions; a single column is the score of the second of two classes."""
    classes = y_pred.shape[-1] if len(y_pred.shape) > 1 else None
    if classes is None:
        raise ValueError(
            "Class predictions need a known last axis `(…, classes)` and a batch axis. "
            f"Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return max(classes, 2)


def read_labels(y_true, y_pred, ignore_class=None):
    """Labels of a loss, with a note of those that are no class."""
    if isinstance(y_true, Labels):
        return y_true
    if isinstance(y_true, (list, tuple)):
        y_true = np.asarray(y_true)
    values = backend.peek(y_true)
    given, is_rows = _form(
        y_true if ops.is_tensor(y_true) else ops.convert_to_tensor(y_true), y_pred
    )
    if is_rows:
        if ignore_class is not None:
            raise ValueError(
                "`ignore_class` needs labels that are integer ids; leave samples with one-hot or soft rows out "
                f"by their weights. Received: ignore_class={ignore_class}, y_true.shape={tuple(given.shape)}"
            )
        return Labels(None, ops.cast(given, upcast(y_pred).dtype))
    ids, classes = _as_index(given), number_of_classes(y_pred)
    counted = None if ignore_class is None else ops.not_equal(ids, ignore_class)
    outside = None
    if values is None or not _all(values, lambda v: _is_class(v, classes), ignore_class):
        outside = ops.logical_or(ids < 0, ids >= classes)
        if "int" not in str(given.dtype) and "bool" not in str(given.dtype):  # Fractions and NaN.
            outside = ops.logical_or(outside, ops.not_equal(ops.cast(ids, given.dtype), given))
        outside = outside if counted is None else ops.logical_and(outside, counted)
        ids = ops.where(outside, 0, ids)
    ids = ids if counted is None else ops.where(counted, ids, 0)
    return Labels(ids, None, outside, counted, values)


def _as_index(x):
    kept = keras.backend.standardize_dtype(x.dtype) in ("int32", "int64")
    return x if kept else ops.cast(x, "int32")


def _is_class(values, classes):
    inside = (values >= 0) & (values < classes)
    return inside if values.dtype.kind != "f" else inside & (values == np.trunc(values))


def read_targets(y_true, y_pred, ignore_class=None):
    """Labels of a single score per sample: targets between 0 and 1 as rows `(…, 1)`."""
    values = backend.peek(np.asarray(y_true) if isinstance(y_true, (list, tuple)) else y_true)
    targets, _ = align(y_true, y_pred)
    counted = None if ignore_class is None else ops.not_equal(targets, ignore_class)
    outside = None
    if values is None or not _all(values, lambda v: (v >= 0) & (v <= 1), ignore_class):
        outside = ops.logical_not(ops.logical_and(targets >= 0, targets <= 1))
        outside = outside if counted is None else ops.logical_and(outside, counted)
        targets = ops.where(outside, 0.0, targets)
    targets = targets if counted is None else ops.where(counted, targets, 0.0)
    return Labels(None, ops.expand_dims(targets, -1), outside, counted, values)


def _all(values, condition, ignore_class):
    """Whether all numbers of an array fulfil a condition, or are the one to ignore."""
    if values.dtype.kind not in "biuf":  # Half precision of other makers.
        values = values.astype("float32")
    if ignore_class is not None:
        values = values[values != ignore_class]
    if values.dtype.kind != "f" and values.size:
        values = np.array((values.min(), values.max()))
    return condition(values).all()


def check_labels(labels, y_pred):
    """The labels; raises if some that could be looked at are outside of what they can be."""
    if labels.known is not None and labels.outside is not None:
        wrong = np.unique(np.ravel(labels.known)[np.ravel(ops.convert_to_numpy(labels.outside))])
        wanted = "targets between 0 and 1"
        if labels.rows is None:
            wanted = f"class ids from 0 to {number_of_classes(y_pred) - 1}"
        raise ValueError(
            f"Expected {wanted} for y_pred.shape={tuple(y_pred.shape)}. Received: y_true with "
            f"{', '.join(map(str, wrong[:5]))}{', …' if len(wrong) > 5 else ''}. Samples without a label, "
            "with ids such as -1 or 255, are left out by `ignore_class=` or a weight of 0."
        )
    return labels


def class_labels(y_true, y_pred):
    """Labels for something that has no value where the label is no class: see `spoil`."""
    if isinstance(y_true, Labels):
        return y_true
    return check_labels(read_labels(y_true, y_pred), y_pred)


def spoil(values, labels):
    """NaN where a label is no class that could not be looked at: never the value of another class."""
    return values if labels.outside is None else ops.where(labels.outside, np.nan, values)


def short_labels(labels):
    """Labels as ids if their rows are seen to be one-hot: a look-up takes the place of passes over all classes."""
    ids = None if labels.rows is None else backend.one_hot_ids(labels.rows)
    return labels if ids is None else labels._replace(ids=ids, rows=None)


def label_rows(y_true, y_pred):
    """Labels as float rows `(…, classes)` like `y_pred`."""
    labels = class_labels(y_true, y_pred)
    if labels.rows is not None:
        return labels.rows
    rows = ops.one_hot(labels.ids, number_of_classes(y_pred), dtype=upcast(y_pred).dtype)
    return rows if labels.outside is None else ops.where(labels.outside[..., None], np.nan, rows)


def pick(values, ids):
    """`values[…, ids]`: the entry of each row at its label, of an id that is a class."""
    return backend.take_last(values, ids[..., None])[..., 0]


def mean_under(rows, values):
    """`Σ_k t_k values_k`, where a class without a share may have an infinite value."""
    product = ops.sum(rows * values, axis=-1)
    known = backend.peek(product)
    if known is not None and not np.isnan(known).any():
        return product  # Where nothing is compiled, the mask costs as much as all the rest.
    return ops.sum(rows * ops.where(ops.equal(rows, 0), 0.0, values), axis=-1)


def at_label(y_true, values):
    """`Σ_k t_k values_k`: the entry of each row at its label, the mean over classes under a soft one."""
    labels = class_labels(y_true, values)
    if labels.rows is not None:
        return mean_under(labels.rows, values)
    return spoil(pick(values, labels.ids), labels)


def label_ids(y_true, y_pred):
    """Labels as integer ids `(…)`, as they are; of a row, the position of its largest entry."""
    ids, rows = split_labels(y_true, y_pred)
    return ops.cast(ops.argmax(rows, axis=-1), "int32") if ids is None else ids


def labelled(y, outputs):
    """Which samples have a label: bools of the shape of `outputs` without its last axis.

    Negative class ids mark the others, and rows (one-hot, soft or multi-label) with a negative entry.
    """
    known = ops.greater_equal(y, 0)  # not `y >= 0`, which TensorFlow refuses for boolean labels
    return ops.all(known, axis=-1) if len(y.shape) == len(outputs.shape) else known


def label_mask(y_true, y_pred):
    """Bools of the shape of `y_pred`, set at the label; nowhere for a sample without one, see `labelled`."""
    known = labelled(ops.convert_to_tensor(y_true), y_pred)
    ids = ops.where(known, label_ids(y_true, y_pred), -1)
    return ops.equal(ops.expand_dims(ids, -1), ops.arange(y_pred.shape[-1], dtype="int32"))


def align(y_true, y_pred):
    """Both in at least float32 and of the same shape, without a last axis of size one.

    `(batch,)` and `(batch, 1)` mean the same; what is left are samples, or `(batch, time)` positions.
    """
    scores = upcast(y_pred)
    targets = ops.cast(ops.convert_to_tensor(y_true), scores.dtype)
    shapes = tuple(targets.shape), tuple(scores.shape)
    if len(scores.shape) > 1 and scores.shape[-1] == 1:
        scores = ops.squeeze(scores, axis=-1)
    if len(targets.shape) > len(scores.shape) and targets.shape[-1] == 1:
        targets = ops.squeeze(targets, axis=-1)
    given, wanted = tuple(targets.shape), tuple(scores.shape)
    if (
        not wanted
        or len(given) != len(wanted)
        or any(None not in (a, b) and a != b for a, b in zip(given, wanted))
    ):
        raise ValueError(
            "Expected targets and predictions of equal shapes, (batch,) or (batch, 1). "
            f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
        )
    return targets, scores


def align_binary(y_true, y_pred):
    """`align` for targets between 0 and 1: others raise if they can be looked at, and are NaN elsewhere."""
    labels = check_labels(read_targets(y_true, y_pred), y_pred)
    _, scores = align(y_true, y_pred)
    return spoil(ops.squeeze(labels.rows, axis=-1), labels), scores
