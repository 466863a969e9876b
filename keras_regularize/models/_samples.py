"""Losses per sample for the methods that weight samples by them."""

from keras import ops


def weighted_losses(batch, forward, outputs):
    """`(losses, weights)`, constants `(batch,)`: the compiled loss of each sample, and what it weighs so far.

    The weights have those of the batch in them, the factors of a wrapper outside, and the share of positions that
    a mask leaves; unlabelled rows of semi-supervised models weigh 0.
    """
    losses, weights = forward.weighted_losses(batch, outputs)
    if batch.reweighting is not None:
        weights = weights * ops.cast(batch.reweighting(outputs), weights.dtype)
    return ops.stop_gradient(losses), ops.stop_gradient(weights)
