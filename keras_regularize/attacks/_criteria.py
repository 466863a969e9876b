"""What an attack maximizes: per-sample functions of the outputs at a perturbed point."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import Forward
from keras_regularize.autodiff.compiled_losses import masked_mean_per_sample, sample_losses
from keras_regularize.labels import label_ids, labelled, pick, split_labels
from keras_regularize.numerics import kl_divergence, safe_log, upcast
from keras_regularize.scores import (
    class_log_probabilities,
    class_logits,
    class_outputs,
    gives_logits,
    one_output,
    output_labels,
)

# Stands for the logarithm of 0, and has a difference to other numbers in float32.
NOTHING = -1e30

CRITERIA = ("cross_entropy", "kl", "margin", "dlr", "margin_shift", "compiled")


def criterion(name, point, y, attack, targeted=False, rank=None):
    """A function of a point's outputs that gives one value per sample, `(batch,)`, to be maximized.

    With `targeted` it is the negative loss, so that ascending it leads towards the labels. Where only the
    direction of a sample's gradient matters, and no batch statistics tie samples to each other, the
    cross-entropy is maximized by its logarithm, which has the same direction and does not underflow. The
    criteria of a target, "targeted_dlr" and "target_margin", take the class of that `rank` at the start.
    """
    if targeted:
        opposite = criterion(name, point, y, attack)
        return lambda outputs: -opposite(outputs)
    if name != "kl" and y is None:
        raise ValueError(f"An attack on the loss {name!r} needs labels `y`. Received: y=None")
    model = point.model
    if name == "compiled":
        if isinstance(model, Forward):
            return lambda outputs: model.sample_losses(y, outputs)
        return lambda outputs: sample_losses(getattr(model, "loss", None), y, outputs)
    logits = gives_logits(model, attack.from_logits, attack.remedy)

    def value(values, outputs):
        return masked_mean_per_sample(values, one_output(outputs, model))

    def log_probabilities(outputs):
        return class_log_probabilities(class_outputs(outputs, model), logits)

    if name == "kl":
        clean = ops.stop_gradient(log_probabilities(point.outputs(point.start)))
        scale = only_direction(point, attack)
        return lambda outputs: value(_divergence(clean, log_probabilities(outputs), scale), outputs)
    if name == "margin_shift":
        outputs = class_outputs(point.outputs(point.start), model)
        clean = ops.stop_gradient(_scores(outputs, logits))
        rule: Callable[..., Any] = functools.partial(_margin_shift, clean=clean)
    elif rank is not None:
        clean = _scores(class_outputs(point.outputs(point.start), model), logits)
        order = ops.argsort(ops.stop_gradient(clean), axis=-1)
        target = ops.take(ops.cast(order, "int32"), clean.shape[-1] - rank, axis=-1)
        rules = {"targeted_dlr": _targeted_dlr, "target_margin": _target_margin}
        rule = functools.partial(rules[name], target=target)
    else:
        rule = {"cross_entropy": _log_cross_entropy, "margin": _margin, "dlr": _dlr}[name]

    def of_labels(outputs):
        labels, classes = output_labels(y, outputs, model), class_outputs(outputs, model)
        missing = NOTHING if name == "cross_entropy" else 0.0
        values = _of_labelled(rule, labels, _scores(classes, logits), missing)
        if name != "cross_entropy":
            return value(values, outputs)
        if not only_direction(point, attack):
            return value(ops.exp(values), outputs)
        if len(values.shape) == 1:
            return values
        axes = tuple(range(1, len(values.shape)))
        top = ops.stop_gradient(ops.max(values, axis=axes, keepdims=True))
        mean = value(ops.exp(values - top), outputs)
        return safe_log(mean) + ops.reshape(top, (-1,))

    return of_labels


def only_direction(point, attack):
    """Whether the gradient of a sample may have any length."""
    return attack.follows_direction and not point.training


def value_of_no_loss(name, point, attack):
    """What a criterion is where its loss is 0: that of "dlr" is less by 1."""
    logarithm = only_direction(point, attack)
    zero = {"dlr": -1.0, "cross_entropy": -float("inf") if logarithm else 0.0}.get(name, 0.0)
    return -zero if attack.targeted else zero


def _scores(outputs, from_logits):
    """Scores `(…, classes)` whose softmax are the probabilities, in at least float32.

    Of probabilities their logarithms, down to the smallest numbers: where Keras' losses clip at 1e-7, an
    attack on a confident model would stall.
    """
    if from_logits:
        return class_logits(outputs)
    outputs = upcast(outputs)
    if outputs.shape[-1] == 1:
        outputs = ops.concatenate([1.0 - outputs, outputs], axis=-1)
    total = ops.sum(outputs, axis=-1, keepdims=True)
    return safe_log(outputs / ops.where(total > 0, total, 1.0))


def _of_labelled(rule, y, scores, missing):
    """`missing` for samples without a label, as semi-supervised models have them: nothing moves those."""
    y = ops.convert_to_tensor(y)
    known = labelled(y, scores)
    wide = known if len(known.shape) == len(y.shape) else known[..., None]
    values = rule(ops.where(wide, y, ops.zeros_like(y)), scores)
    return ops.where(known, values, missing)


def _log_cross_entropy(y, scores):
    """Logarithm of the cross-entropy, exact up to rounding also where that is 1e-20 or underflows.

    With label `k` it is `softplus(m)`, `m` the log of the odds against `k`. Only of the class of the largest
    score can that be small.
    """
    if 0 in scores.shape:
        return ops.sum(scores, axis=-1)
    scores = ops.maximum(scores, NOTHING)  # -inf, as of forbidden classes, has no gradient.
    largest = ops.one_hot(ops.argmax(scores, axis=-1), scores.shape[-1], dtype="bool")
    others = ops.logsumexp(ops.where(largest, NOTHING, scores), axis=-1)
    odds = others - ops.max(scores, axis=-1)
    losses = -ops.log_softmax(scores, axis=-1)
    logs = ops.where(
        largest, _log_softplus(odds)[..., None], ops.log(ops.where(largest, 1.0, losses))
    )
    ids, rows = split_labels(y, scores)
    if rows is None:
        return pick(logs, ids)
    return ops.logsumexp(ops.where(rows > 0, safe_log(rows) + logs, NOTHING), axis=-1)


def _log_softplus(x):
    small = x < -20.0
    exact = ops.log(ops.softplus(ops.where(small, 0.0, x)))
    return ops.where(small, x - 0.5 * ops.exp(x), exact)


def _divergence(log_p, log_q, scale):
    """`KL(p‖q)` with the gradient `q - p` in the logits, as `p expm1(log q - log p)`: nothing cancels.

    With `scale`, that of each sample is brought to a size that does not underflow.
    """
    p, rise = ops.exp(log_p), log_q - log_p
    near = p * ops.expm1(ops.minimum(rise, 1.0))
    change = ops.stop_gradient(ops.where(rise < 1.0, near, ops.exp(log_q) - p))
    # The entries sum to 0, and that of the likeliest class is the least exact one.
    likeliest = ops.one_hot(ops.argmax(log_p, axis=-1), log_p.shape[-1], dtype="bool")
    change = ops.where(likeliest, 0.0, change)
    change = ops.where(likeliest, -ops.sum(change, axis=-1, keepdims=True), change)
    if scale and 0 not in change.shape:
        size = ops.max(ops.abs(change), axis=tuple(range(1, len(change.shape))), keepdims=True)
        change = change / ops.where(size > 0, size, 1.0)
    slope = ops.sum(change * log_q, axis=-1)
    return ops.stop_gradient(kl_divergence(log_p, log_q) - slope) + slope


def _margin_of(ids, scores):
    own = ops.one_hot(ids, scores.shape[-1], dtype="bool")
    lowest = -3e38 if keras.backend.standardize_dtype(scores.dtype) != "float64" else -1e300
    return ops.max(ops.where(own, lowest, scores), axis=-1) - pick(scores, ids)


def _margin(y, scores):
    return _margin_of(label_ids(y, scores), scores)


def _dlr(y, scores):
    """The ratio less 1: of a label in third place that is -1e-12 / span, lost where 1 is added."""
    ids = label_ids(y, scores)
    if scores.shape[-1] < 3:
        raise ValueError(
            "The loss 'dlr' needs at least 3 classes. "
            f"Received outputs of shape {tuple(scores.shape)}"
        )
    order = ops.cast(ops.argsort(scores, axis=-1), "int32")
    third = order[..., -3]
    span = pick(scores, order[..., -1]) - pick(scores, third)
    excess = ops.where(third == ids, 0.0, _margin_of(ids, scores) - span)
    return (excess - 1e-12) / (span + 1e-12)


def _target_margin(y, scores, target):
    return pick(scores, target) - pick(scores, label_ids(y, scores))


def _targeted_dlr(y, scores, target):
    if scores.shape[-1] < 4:
        raise ValueError(
            "The loss 'targeted_dlr' needs at least 4 classes. "
            f"Received outputs of shape {tuple(scores.shape)}"
        )
    order = ops.cast(ops.argsort(scores, axis=-1), "int32")
    first, third, fourth = (pick(scores, order[..., -i]) for i in (1, 3, 4))
    return _target_margin(y, scores, target) / (first - 0.5 * (third + fourth) + 1e-12)


def _margin_shift(y, scores, clean):
    ids, shift = label_ids(y, scores), scores - clean
    return ops.sum((shift - ops.expand_dims(pick(shift, ids), -1)) ** 2, axis=-1)
