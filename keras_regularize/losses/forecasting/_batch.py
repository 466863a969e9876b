"""Sums over what counts in a batch, and values per sample made of them."""

from keras import ops

from keras_regularize.numerics import maximum

#: What divides is at least this.
FLOOR = 1e-7


def counted_sum(x, here):
    """The sum of `x` where `here` is not 0."""
    return ops.sum(ops.where(here > 0, x, 0.0))


def contributions(errors, total, here):
    """Values per sample, or position, whose mean over those that count is the sum of errors over `total`."""
    errors = ops.where(here > 0, errors, 0.0)
    if len(errors.shape) > 1:
        errors, here = ops.sum(errors, axis=-1), here[..., 0]
    return errors * (ops.sum(here) / maximum(total, FLOOR))


def repeated(value, x):
    """One value for the batch as that of each sample, or position; the last axis of `x` is that of outputs."""
    shape = ops.shape(x)
    return ops.broadcast_to(value, shape[:-1] if len(shape) > 1 else shape)
