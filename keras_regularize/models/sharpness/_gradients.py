"""Lists of gradients and weights: the few operations that the rules of this family share."""

from keras import ops

from keras_regularize.numerics import upcast


def move(weights, directions, scale=1.0):
    """`w + scale · d` for every pair, in the dtype of the weight."""
    return [w + ops.cast(scale * d, w.dtype) for w, d in zip(weights, directions)]


def combine(a, first, b, second):
    """`a · first + b · second` for every pair."""
    return [a * x + b * y for x, y in zip(first, second)]


def dot(first, second):
    """Joint inner product of two lists, a float32 scalar."""
    return sum(ops.sum(upcast(x) * upcast(y)) for x, y in zip(first, second))


def unless_overflown(objective, gradients, new, old):
    """The list `new`, but `old` where a scaled loss gave no finite gradients.

    The optimizer skips such a step and lowers its scale; state that followed would keep the NaN.
    """
    if isinstance(objective.scale, float) and objective.scale == 1.0:
        return new
    finite = ops.isfinite(dot(gradients, gradients))
    return [ops.where(finite, x, y) for x, y in zip(new, old)]
