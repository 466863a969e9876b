"""Class labels in the forms Keras users pass them, told apart in one place."""

from keras import ops

from keras_regularize._validation import compatible
from keras_regularize.numerics import upcast


def split_labels(y_true, y_pred):
    """`(ids, None)` for integer ids or `(None, rows)` for one-hot or soft rows.

    `y_pred` is `(…, classes)`. Ids are `(…)` or `(…, 1)`, rows `(…, classes)`; the static shapes decide.
    """
    y_true = ops.convert_to_tensor(y_true)
    classes, rank = y_pred.shape[-1], len(y_pred.shape)
    if classes is None or rank < 2:
        raise ValueError(
            "Class predictions need a known last axis `(…, classes)` and a batch axis. "
            f"Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    leading, given = tuple(y_pred.shape[:-1]), tuple(y_true.shape)
    if compatible(given, leading):
        return ops.cast(y_true, "int32"), None
    if len(given) == rank and compatible(given[:-1], leading):
        if given[-1] == classes and classes > 1:
            return None, ops.cast(y_true, upcast(y_pred).dtype)
        if given[-1] == 1:
            return ops.cast(ops.squeeze(y_true, axis=-1), "int32"), None
    raise ValueError(
        "Expected class labels as integer ids of shape (batch,) or (batch, 1), or one-hot or soft rows of "
        f"shape (batch, classes). Received: y_true.shape={given} for y_pred.shape={tuple(y_pred.shape)}"
    )


def label_rows(y_true, y_pred):
    """Labels as float rows `(…, classes)` like `y_pred`."""
    ids, rows = split_labels(y_true, y_pred)
    if rows is None:
        return ops.one_hot(ids, y_pred.shape[-1], dtype=upcast(y_pred).dtype)
    return rows


def pick(values, ids):
    """`values[…, ids]`: the entry of each row at its label."""
    return ops.squeeze(ops.take_along_axis(values, ops.expand_dims(ids, -1), axis=-1), axis=-1)


def at_label(y_true, values):
    """`Σ_k t_k values_k`: the entry of each row at its label, the mean over classes under a soft one."""
    ids, rows = split_labels(y_true, values)
    return pick(values, ids) if rows is None else ops.sum(rows * values, axis=-1)


def label_ids(y_true, y_pred):
    """Labels as integer ids `(…)`; of a row, the position of its largest entry."""
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
