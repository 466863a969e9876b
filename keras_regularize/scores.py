"""What a classifier gives out: logits or probabilities, and its scores in either case."""

import keras
from keras import ops

from keras_regularize.autodiff import Forward, backend
from keras_regularize.autodiff.functional import only
from keras_regularize.labels import (
    at_label,
    class_labels,
    mean_under,
    pick,
    split_labels,
    spoil,
)
from keras_regularize.numerics import log_probabilities, upcast


def uses_logits(loss) -> bool:
    """What a compiled loss says of the model's outputs; without a loss they are taken to be logits."""
    if loss is None:
        return True
    if isinstance(loss, keras.losses.Loss):
        if hasattr(loss, "from_logits"):
            return bool(loss.from_logits)
        return bool(loss.get_config().get("from_logits", False))
    return False  # Names and functions of Keras take probabilities.


def compiled_loss(model):
    """The `loss` a model, or the model behind a `Forward`, was compiled with."""
    return only(getattr(model.model if isinstance(model, Forward) else model, "loss", None))


def gives_logits(model, from_logits=None):
    """Whether a model gives out logits: `from_logits`, or where that is `None` what its compiled loss says."""
    return uses_logits(compiled_loss(model)) if from_logits is None else from_logits


def one_output(outputs):
    """The outputs of a model that has one; an error that names the way out for several."""
    if isinstance(outputs, (dict, list, tuple)):
        raise ValueError(
            "Class probabilities need a model with one output; with several use `loss='compiled'`. "
            f"Received {len(outputs)} outputs"
        )
    return outputs


def class_log_probabilities(outputs, from_logits):
    """Log-probabilities of a model with one classification output."""
    return log_probabilities(one_output(outputs), from_logits)


def predicts_label(y, outputs, from_logits):
    """Whether the label has the largest score, at every sample (and position): booleans `(batch, …)`."""
    ids, scores = label_and_scores(y, outputs, from_logits)
    return ops.equal(ops.cast(ids, "int32"), ops.cast(ops.argmax(scores, axis=-1), "int32"))


def label_and_scores(y, outputs, from_logits):
    """Labels as ids, and the class scores beside them."""
    scores = class_scores(one_output(outputs), from_logits)
    ids, rows = split_labels(y, scores)
    return (ops.argmax(rows, axis=-1) if ids is None else ids), scores


def class_scores(outputs, from_logits):
    """Scores `(…, classes)`, in at least float32, whose softmax are the probabilities.

    These are the logits, a single column beside a 0 for class 0; or log-probabilities.
    """
    if not from_logits:
        return log_probabilities(outputs, False)
    return class_logits(outputs)


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


def relative(logits):
    """`(x, n)`: logits less a number per row, in which no difference of theirs is rounded, and `log Σ_k exp(x_k)`.

    Where the log-probabilities come from one fused operation, `x` are these and `n` is 0. Elsewhere they are
    never built: on JAX that takes half the time of `log_softmax`.
    """
    if backend.RUNS_ONE_BY_ONE:
        return backend.log_softmax(logits), 0.0
    x, _ = shifted(logits)
    return x, ops.log(ops.sum(ops.exp(x), axis=-1))


def crossentropy(y_true, x, normalizer):
    """`-Σ_k t_k log softmax(x)_k` per sample, of logits as `relative` gives them."""
    labels = class_labels(y_true, x)
    if labels.rows is None:
        return spoil(normalizer - pick(x, labels.ids), labels)
    return normalizer * ops.sum(labels.rows, axis=-1) - mean_under(labels.rows, x)


def label_log_probability(y_true, y_pred, from_logits):
    """`Σ_k t_k log p_k` per sample, the log-probability of the label."""
    if from_logits and y_pred.shape[-1] != 1:
        return -crossentropy(y_true, *relative(upcast(y_pred)))
    return at_label(y_true, log_probabilities(y_pred, from_logits))
