"""Labels as an input of a layer: there in training, absent at inference."""

import contextlib
import contextvars

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


def features_and_labels(layer, inputs, training):
    """Features, and the labels if they are to be used: `None` at inference.

    `inputs` are `[features, labels]`, `[features, None]` or the features alone.
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
    return features, labels


def features_shape(input_shape):
    """The shape of the features, of a layer called on them alone or with labels."""
    first = input_shape[0]
    return tuple(first if isinstance(first, (list, tuple)) else input_shape)
