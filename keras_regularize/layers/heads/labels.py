"""Labels as an input of a layer: there in training, absent at inference."""

import contextlib
import contextvars

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import split_labels

_withheld = contextvars.ContextVar("labels_withheld", default=False)


@contextlib.contextmanager
def labels_withheld():
    """Context in which layers compute in training as at inference where there are no labels.

    For predictions that a train step makes beside its loss.
    """
    token = _withheld.set(True)
    try:
        yield
    finally:
        _withheld.reset(token)


def features_and_labels(layer, inputs, training, classes):
    """Features, and the labels if they are to be used: `None` at inference.

    `inputs` are `[features, labels]`, `[features, None]` or the features alone. Ids from `classes` on are an
    error where they can be read; in a compiled step they belong to no class.
    """
    is_list = isinstance(inputs, (list, tuple))
    if is_list and len(inputs) != 2:
        raise ValueError(
            f"`{type(layer).__name__}` takes `[features, labels]`. Received a list of {len(inputs)}"
        )
    features, labels = inputs if is_list else (inputs, None)
    if not training:
        return features, None
    if labels is None and not _withheld.get():
        raise ValueError(
            f"`{type(layer).__name__}` needs the labels in training. Make them an input of the model, `labels = "
            'keras.Input((), dtype="int32", optional=True)`, call the layer on `[features, labels]`, and train '
            "`kr.models.WithLabels(keras.Model([x, labels], outputs))`, which feeds them. "
            "Received: labels=None with training=True"
        )
    if labels is not None:
        _check_ids(layer, features, labels, classes)
    return features, labels


def _check_ids(layer, features, labels, classes):
    labels = ops.convert_to_tensor(labels)
    is_rows = len(labels.shape) == len(features.shape) and labels.shape[-1] == classes > 1
    if is_rows or not backend.readable(labels):
        return
    labels = ops.convert_to_numpy(labels)
    if (labels >= classes).any():
        raise ValueError(
            f"`{type(layer).__name__}` takes class ids from 0 to {classes - 1}, or negative ones for samples "
            f"without a label. Received: labels up to {labels.max()}"
        )


def class_ids(labels, cosine):
    """Ids `(batch,)`, of a row that of its largest entry; negative for a sample without a label."""
    ids, rows = split_labels(labels, cosine)
    if ids is None:
        known = ops.all(rows >= 0, axis=-1)
        ids = ops.where(known, ops.cast(ops.argmax(rows, axis=-1), "int32"), -1)
    return ids


def features_shape(input_shape):
    """The shape of the features, of a layer called on them alone or with labels."""
    first = input_shape[0]
    return tuple(first if isinstance(first, (list, tuple)) else input_shape)
