"""Class labels in the two forms Keras users pass them, told apart in one place."""

from keras import ops

from keras_regularize.numerics import log_probabilities, upcast


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


def class_logits(y_pred):
    """Logits `(…, classes)` in at least float32; one column is that of class 1 and gets a 0 for class 0."""
    logits = upcast(y_pred)
    if len(logits.shape) and logits.shape[-1] == 1:
        return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    return logits


def shifted(logits):
    """`(logits - m, m)` with the maximum `m (…, 1)` of each row, without gradient: no softmax sees the shift."""
    if 0 in logits.shape:  # The maximum of an empty batch raises on TensorFlow.
        return logits, ops.sum(logits, axis=-1, keepdims=True)
    top = ops.stop_gradient(ops.amax(logits, axis=-1, keepdims=True))
    return logits - top, top


def crossentropy(y_true, x):
    """`-Σ_k t_k log softmax(x)_k` per sample, of logits that `shifted` has made safe for `exp`.

    The log-probabilities of all classes are never built: on JAX that takes half the time of `log_softmax`.
    """
    ids, rows = split_labels(y_true, x)
    if rows is None:
        return normalizer(x) - pick(x, ids)
    return normalizer(x) * ops.sum(rows, axis=-1) - ops.sum(rows * x, axis=-1)


def normalizer(x):
    """`log Σ_k exp(x_k)` of logits that `shifted` has made safe for `exp`."""
    return ops.log(ops.sum(ops.exp(x), axis=-1))


def label_log_probability(y_true, y_pred, from_logits):
    """`Σ_k t_k log p_k` per sample, the log-probability of the label."""
    if from_logits and y_pred.shape[-1] != 1:
        return -crossentropy(y_true, shifted(upcast(y_pred))[0])
    return at_label(y_true, log_probabilities(y_pred, from_logits))


def compatible(shape, reference):
    """Whether two static shapes may be equal, as far as they are known."""
    return len(shape) == len(reference) and all(
        a is None or b is None or a == b for a, b in zip(shape, reference)
    )


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
