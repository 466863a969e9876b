"""What an attack maximizes: per-sample functions of the outputs at a perturbed point."""

import functools

import keras
from keras import ops

from keras_regularize.autodiff import Forward
from keras_regularize.autodiff.functional import sample_losses
from keras_regularize.labels import labelled, pick
from keras_regularize.numerics import kl_divergence
from keras_regularize.scores import (
    class_labels,
    class_log_probabilities,
    class_outputs,
    class_scores,
    gives_logits,
    label_and_scores,
    label_log_probability,
    masked_mean_per_sample,
    one_output,
)

CRITERIA = ("cross_entropy", "kl", "margin", "dlr", "margin_shift", "compiled")


def criterion(name, point, y, from_logits, targeted=False):
    """A function of a point's outputs that gives one value per sample, `(batch,)`, to be maximized.

    With `targeted` it is the negative loss, so that ascending it leads towards the labels.
    """
    if targeted:
        value = criterion(name, point, y, from_logits)
        return lambda outputs: -value(outputs)
    if name != "kl" and y is None:
        raise ValueError(f"An attack on the loss {name!r} needs labels `y`. Received: y=None")
    model = point.model
    if name == "compiled":
        if isinstance(model, Forward):
            return lambda outputs: model.sample_losses(y, outputs)
        return lambda outputs: sample_losses(getattr(model, "loss", None), y, outputs)
    logits = gives_logits(model, from_logits, attack=name != "kl")

    def value(values, outputs):
        return masked_mean_per_sample(values, one_output(outputs, model))

    def log_probabilities(outputs):
        return class_log_probabilities(class_outputs(outputs, model), logits)

    if name == "kl":
        clean = ops.stop_gradient(log_probabilities(point.outputs(point.start)))
        return lambda outputs: value(kl_divergence(clean, log_probabilities(outputs)), outputs)
    if name == "margin_shift":
        outputs = class_outputs(point.outputs(point.start), model)
        clean = ops.stop_gradient(class_scores(outputs, logits))
        rule = functools.partial(_margin_shift, clean=clean)
    else:
        rule = {"cross_entropy": _cross_entropy, "margin": _margin, "dlr": _dlr}[name]

    def of_labels(outputs):
        labels, classes = class_labels(y, outputs, model), class_outputs(outputs, model)
        return value(_of_labelled(rule, labels, classes, logits), outputs)

    return of_labels


def _of_labelled(rule, y, outputs, from_logits):
    """0 for samples without a label, as semi-supervised models have them: nothing moves those."""
    y = ops.convert_to_tensor(y)
    known = labelled(y, outputs)
    wide = known if len(known.shape) == len(y.shape) else known[..., None]
    values = rule(ops.where(wide, y, ops.zeros_like(y)), outputs, from_logits)
    return ops.where(known, values, ops.zeros_like(values))


def _cross_entropy(y, outputs, from_logits):
    return -label_log_probability(y, outputs, from_logits)


def _margin_of(ids, scores):
    own = ops.one_hot(ids, scores.shape[-1], dtype="bool")
    lowest = -3e38 if keras.backend.standardize_dtype(scores.dtype) != "float64" else -1e300
    return ops.max(ops.where(own, lowest, scores), axis=-1) - pick(scores, ids)


def _margin(y, outputs, from_logits):
    return _margin_of(*label_and_scores(y, outputs, from_logits))


def _dlr(y, outputs, from_logits):
    """The ratio less 1: of a label in third place that is -1e-12 / span, lost where 1 is added."""
    ids, scores = label_and_scores(y, outputs, from_logits)
    if scores.shape[-1] < 3:
        raise ValueError(
            "The loss 'dlr' needs at least 3 classes. "
            f"Received outputs of shape {tuple(outputs.shape)}"
        )
    order = ops.cast(ops.argsort(scores, axis=-1), "int32")
    third = order[..., -3]
    span = pick(scores, order[..., -1]) - pick(scores, third)
    excess = ops.where(third == ids, 0.0, _margin_of(ids, scores) - span)
    return (excess - 1e-12) / (span + 1e-12)


def _margin_shift(y, outputs, from_logits, clean):
    ids, scores = label_and_scores(y, outputs, from_logits)
    shift = scores - clean
    return ops.sum((shift - ops.expand_dims(pick(shift, ids), -1)) ** 2, axis=-1)
