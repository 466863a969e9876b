"""Losses per sample for the methods that weight samples by them."""

from keras import ops

from keras_regularize.autodiff.functional import per_sample, resolve_weights
from keras_regularize.models import _data
from keras_regularize.numerics import upcast


def weighted_losses(batch, forward, outputs):
    """`(losses, weights, rows)`: the compiled loss and the weight of each sample, and the number of samples.

    Constants in at least float32. Unlabelled rows of semi-supervised models weigh 0 and are not counted.
    """
    y, weights = batch.y, resolve_weights(batch, outputs)
    labelled = None
    if forward.model._is_semi_supervised():
        _, labelled = _data.mask_unlabelled(y, outputs, None)
        y, weights = _data.mask_unlabelled(y, outputs, weights)
    losses = ops.stop_gradient(upcast(forward.sample_losses(y, outputs)))
    ones = ops.ones_like(losses)
    weights = ones if weights is None else per_sample(ops.cast(weights, losses.dtype))
    rows = ones if labelled is None else ops.cast(labelled, losses.dtype)
    return losses, ops.stop_gradient(weights), ops.sum(rows)
