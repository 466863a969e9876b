"""What a classifier gives out: logits or probabilities, and its scores in either case."""

import functools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import Forward, backend
from keras_regularize.autodiff.compiled_losses import CONTAINERS, masked_sample_mean, only
from keras_regularize.autodiff.functional import resolve_weights
from keras_regularize.labels import (
    at_label,
    class_labels,
    mean_under,
    pick,
    split_labels,
    spoil,
)
from keras_regularize.numerics import log_probabilities, upcast

# Keras' functions of a label per column, and all that take probabilities unless told otherwise.
_OF_LABELS = (keras.losses.binary_crossentropy, keras.losses.binary_focal_crossentropy)
_OF_PROBABILITIES = (
    *_OF_LABELS,
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.categorical_generalized_cross_entropy,
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.kl_divergence,
    keras.losses.dice,
    keras.losses.tversky,
)


def uses_logits(loss: Any) -> bool | None:
    """What a loss says of the outputs it is given: logits, probabilities, or nothing, `None`.

    Nothing is known of functions that are not Keras' own and of losses without `from_logits`, unless they
    hold a loss that is known (a risk measure of a loss, a sum of losses).
    """
    given = getattr(loss, "from_logits", None)
    if isinstance(loss, functools.partial):
        given = loss.keywords.get("from_logits")
    elif isinstance(loss, keras.losses.Loss) and given is None:
        given = loss.get_config().get("from_logits")
    if given is not None:
        return bool(given)
    if _is_one_of(loss, _OF_PROBABILITIES):
        return False
    found = {uses_logits(held) for held in _held(loss)} - {None}
    return found.pop() if len(found) == 1 else None


def _scores_labels(loss):
    """Whether a loss takes every column for a label of its own, as binary cross-entropy does."""
    return _is_one_of(loss, _OF_LABELS) or any(_scores_labels(held) for held in _held(loss))


def is_regression(loss):
    """Whether a loss is one of Keras', or one made of these, that says nothing of classes: squared error, say."""
    if uses_logits(loss) is not None:
        return False
    if _held(loss):
        return all(is_regression(held) for held in _held(loss))
    source = loss if hasattr(loss, "__name__") else type(loss)
    return getattr(source, "__module__", "").split(".")[0] in ("keras", "keras_regularize")


def _is_one_of(loss, functions):
    return any(loss is function for function in functions)


def _held(loss):
    """The losses that one is made of."""
    if isinstance(loss, str):
        return [keras.losses.get(loss)]
    if isinstance(loss, functools.partial):
        return [loss.func]
    if not isinstance(loss, keras.losses.Loss):
        return []
    values: list[Any] = []
    for value in vars(loss).values():
        inside = value.values() if isinstance(value, Mapping) else value
        values.extend(inside if isinstance(value, CONTAINERS) else [value])
    return [value for value in values if callable(value) and value is not loss]


def compiled_loss(model, remedy=""):
    """The one `loss` that a model was compiled with, or the model behind a `Forward`; `None` without.

    Of a wrapper that is not compiled it is that of the model inside, and of several outputs that of the one
    that has a loss; an error if several have.
    """
    loss = _structure_of_losses(model)
    places = [key for key, entry in _entries(loss) if entry is not None]
    if len(places) > 1:
        raise ValueError(
            "Expected one output that has a loss, the class scores. Received losses for "
            f"{len(places)} outputs, {places}: compile with `None` for the others{remedy}"
        )
    return loss[places[0]] if places else only(loss)


def _entries(structure):
    if isinstance(structure, Mapping):
        return list(structure.items())
    return list(enumerate(structure)) if isinstance(structure, (list, tuple)) else []


def wrapped_models(model):
    """A model, or that of a `Forward`, and those that it wraps, outermost first."""
    model = model.model if isinstance(model, Forward) else model
    models = [model]
    while hasattr(models[-1], "innermost"):
        models.append(models[-1].model)
    return models


def known_logits(model, from_logits=None, place=None):
    """Whether a model gives out logits, or `None` where that cannot be known.

    What is given says so, `from_logits`, also that of a wrapper; else the compiled loss; and of a model without
    one the activation of its last layer. Of several outputs, `place` is the position or name of one.
    """
    given = [
        from_logits,
        *(getattr(wrapper, "from_logits", None) for wrapper in wrapped_models(model)),
    ]
    told = next((bool(entry) for entry in given if entry is not None), None)
    if told is not None:
        return told
    loss = loss_at(model, place)
    return (
        _layer_gives_logits(wrapped_models(model)[-1], place) if loss is None else uses_logits(loss)
    )


def gives_logits(model, from_logits=None, remedy="", place=None):
    """What `known_logits` says; raises `ValueError` where that is nothing, with what else the caller can do."""
    if place is None:
        compiled_loss(model, remedy)
    known = known_logits(model, from_logits, place)
    if known is None:
        loss = loss_at(model, place)
        source = "a model without a loss" if loss is None else f"the loss {_name(loss)}"
        raise ValueError(
            "Expected to know whether the model gives out logits or probabilities of classes. Received: "
            f"{source}, which does not say so. Pass `from_logits=True` or `from_logits=False`{remedy}"
        )
    return known


def _name(loss):
    return repr(getattr(loss, "name", None) or getattr(loss, "__name__", loss))


def _layer_gives_logits(model, place=None):
    """What the last layer of a model says by its activation, or `None`."""
    activation = _last_activation(model, place)
    if activation in (keras.activations.softmax, keras.activations.sigmoid):
        return False
    return True if activation is keras.activations.linear else None


def _last_activation(layer, place=None):
    """The activation of the layer that an output of a model comes from, or `None` where that is not known."""
    while isinstance(layer, keras.Model):
        inside = list(getattr(layer, "layers", ()))
        if not isinstance(layer, keras.Sequential):
            # An operation may come after the last layer; only functional models know.
            names = list(getattr(layer, "output_names", None) or ())
            name = names[place] if isinstance(place, int) and place < len(names) else place
            name = names[0] if len(names) == 1 else name
            inside, place = [part for part in inside if part.name == name], None
        if not inside:
            return None
        layer = inside[-1]
    while isinstance(layer, keras.layers.Wrapper):
        layer = layer.layer
    if isinstance(layer, keras.layers.Softmax):
        return keras.activations.softmax
    activation = getattr(layer, "activation", None)
    # `Activation("linear")` passes on what came before it.
    passes = isinstance(layer, keras.layers.Activation) and activation is keras.activations.linear
    return None if passes else activation


def one_output(outputs, model, place=None):
    """The output of a model that has a loss, or that at `place`; an error if several have."""
    if not isinstance(outputs, CONTAINERS):
        return outputs
    return outputs[_one_place(outputs, model) if place is None else place]


def _one_place(outputs, model):
    places = scored_places(outputs, model)
    if len(places) == 1:
        return places[0]
    raise ValueError(
        f"Expected one output that has a loss. Received {len(outputs)} outputs, {len(places)} with a loss: "
        "compile with `None` for the others, as in `loss={'scores': …, 'other': None}`"
    )


def scored_places(outputs, model):
    """Positions or names of the outputs that have a loss, or of the only one; `[None]` for a tensor."""
    if not isinstance(outputs, CONTAINERS):
        return [None]
    keys = [key for key, _ in _entries(outputs)]
    return keys if len(keys) == 1 else [key for key in keys if loss_at(model, key) is not None]


def places_of_losses(model):
    """As `scored_places`, before there are outputs."""
    loss = _structure_of_losses(model)
    if not isinstance(loss, CONTAINERS) or len(loss) == 1:
        return [None]
    return [key for key, entry in _entries(loss) if entry is not None]


def _structure_of_losses(model):
    losses = (getattr(candidate, "loss", None) for candidate in wrapped_models(model))
    return next((loss for loss in losses if loss is not None), None)


def loss_at(model, place=None):
    """The loss of one of several outputs, or the only one."""
    if place is None:
        return compiled_loss(model)
    loss = _structure_of_losses(model)
    return _entry(loss, place, model) if isinstance(loss, CONTAINERS) else loss


def _entry(structure, place, model):
    """What stands for one of several outputs in a structure: by its position, or by its name."""
    names = dict(enumerate(getattr(wrapped_models(model)[0], "output_names", None) or ()))
    entries = dict(_entries(structure))
    return entries.get(place, entries.get(names.get(place)))


def one_label(y, outputs, model, place=None):
    """Labels or weights of an output as `one_output` takes it, from those of all outputs or of it alone."""
    if not isinstance(y, CONTAINERS):
        return y
    if isinstance(outputs, CONTAINERS) and len(y) > 1:
        return _entry(y, _one_place(outputs, model) if place is None else place, model)
    return only(y)


def class_outputs(outputs, model, place=None):
    """Scores or probabilities `(batch, …, classes)` of an output as `one_output` takes it.

    Binary cross-entropy takes each of several columns for a label of its own: these are then positions, with
    one column each.
    """
    output = one_output(outputs, model, place)
    return output[..., None] if has_labels(output, model, place) else output


def output_labels(y, outputs, model, place=None):
    """Labels that fit to `class_outputs`."""
    y = one_label(y, outputs, model, place)
    output = one_output(outputs, model, place)
    if not has_labels(output, model, place) or len(output.shape) == 1:
        return y
    y = ops.cast(y, upcast(output).dtype)
    if len(y.shape) != len(output.shape):
        raise ValueError(
            "Binary cross-entropy of several columns needs a label for each. Received: "
            f"y.shape={tuple(y.shape)} for outputs of shape {tuple(output.shape)}"
        )
    return ops.stack([ops.where(y < 0, y, 1.0 - y), y], axis=-1)


def has_labels(output, model, place=None):
    """Whether every one of several columns is a label of its own."""
    if len(output.shape) > 1 and output.shape[-1] == 1:
        return False
    loss = loss_at(model, place)
    if uses_logits(loss) is None and not _scores_labels(loss):
        return _last_activation(wrapped_models(model)[-1], place) is keras.activations.sigmoid
    return _scores_labels(loss)


def class_log_probabilities(outputs, from_logits):
    """Log-probabilities of classification outputs `(…, classes)`."""
    return log_probabilities(outputs, from_logits)


def predicts_label(y, outputs, model, from_logits=None):
    """Whether the label has the largest score, at every sample (and position): booleans `(batch, …)`.

    Of several columns the largest is the prediction, be they logits or not. Of a row with several labels
    each of them is right.
    """
    y, outputs = one_label(y, outputs, model), one_output(outputs, model)
    if len(outputs.shape) == 1:
        outputs = outputs[:, None]
    if outputs.shape[-1] == 1:
        scores = class_scores(outputs, gives_logits(model, from_logits))
    else:
        scores = upcast(outputs)
    ids, rows = split_labels(y, scores)
    predicted = ops.cast(ops.argmax(scores, axis=-1), "int32")
    if rows is None:
        return ops.equal(ops.cast(ids, "int32"), predicted)
    return ops.equal(pick(rows, predicted), ops.max(rows, axis=-1))


def sample_mean(forward, values, batch, place=None):
    """`masked_sample_mean` of values for the outputs and with the weights of a pass."""
    outputs = one_output(forward.outputs, forward, place)
    weights = one_label(resolve_weights(batch, forward.outputs), forward.outputs, forward, place)
    return masked_sample_mean(values, outputs, weights) * batch.loss_weight


def label_and_scores(y, outputs, from_logits):
    """Labels as ids, and the class scores beside them."""
    scores = class_scores(outputs, from_logits)
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
