"""Losses together with their gradients, in few passes over the logits: what they cost where nothing is compiled.

A loss has its formula, which is differentiated wherever a compiler joins the passes, and for second derivatives.
It may have its slopes besides, a function `(labels, logits, room)` that gives the values and writes their
derivatives into `room`, an array like the logits. It sees some of the rows at a time, no derivative is recorded in
it, and `x *= …` works in place.
"""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import Labels, mean_under, pick, short_labels


def by_slopes(formula, slopes, labels, logits):
    """`formula(labels, logits)`, by slopes where that is cheaper."""
    return _by(formula, slopes, short_labels(labels), logits)


def by_rows(formula, labels, logits):
    """`formula(labels, logits)`, whose rows need nothing of each other: some at a time where that is cheaper."""
    return _by(formula, None, labels, logits)


def _by(formula, slopes, labels, logits):
    by_rows = labels.rows is not None

    def of(y):
        return Labels(None, y) if by_rows else Labels(y, None)

    return backend.with_slopes(
        lambda z, y: formula(of(y), z),
        slopes and (lambda z, y, room: slopes(of(y), z, room)),
        logits,
        labels.rows if by_rows else labels.ids,
    )


def crossentropy_slopes(labels, logits, room):
    """`-Σ_k t_k log softmax(z)_k`, and position and value of the largest logit, of several the first."""
    backend.in_place.softmax(room, logits)
    first = backend.first_maximum(logits)
    top = pick(logits, first)
    # Of the logits less the largest: its probability is 1/K at least.
    normalizer = -ops.log(pick(room, first))
    if labels.rows is None:
        backend.in_place.add_last(room, labels.ids, -1.0)
        return (top - pick(logits, labels.ids)) + normalizer, first, top
    total = ops.sum(labels.rows, axis=-1)
    room *= total[..., None]
    room -= labels.rows
    return total * normalizer + mean_under(labels.rows, top[..., None] - logits), first, top


def below_margin(logits, top, margin):
    """How far each logit is more than `margin` below the largest one: negative numbers and zeros."""
    below = logits - top[..., None]
    below += margin  # Second: large logits would round the margin away.
    return backend.in_place.clip(below, high=0.0)
