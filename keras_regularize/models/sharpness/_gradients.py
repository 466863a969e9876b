"""Lists of gradients and weights: the few operations that the rules of this family share.

Scalars are of at least float32, half precision is computed in float32, and results have the dtype of the list that
comes first.
"""

from keras import ops

from keras_regularize.numerics import GUARD, global_norm, joint_sum, upcast
from keras_regularize.utils.variables import everything

_UNSCALED = ("bias", "beta")


def move(weights, directions, scale=1.0):
    """`w + scale · d` for every pair."""
    return [w + ops.cast(d, w.dtype) for w, d in zip(weights, multiply(scale, directions))]


def combine(a, first, b, second):
    """`a · first + b · second` for every pair."""
    parts = zip(multiply(a, first), multiply(b, second), first)
    return [ops.cast(x + ops.cast(y, x.dtype), like.dtype) for x, y, like in parts]


def multiply(scale, tensors):
    """`scale · t` for every tensor, in at least float32."""
    wide = [upcast(t) for t in tensors]
    if isinstance(scale, (int, float)):
        return [scale * t for t in wide]
    return [ops.cast(scale, t.dtype) * t for t in wide]


def like(first, tensors):
    """The tensors in the dtypes of those of `first`."""
    return [ops.cast(t, x.dtype) for x, t in zip(first, tensors)]


def dot(first, second):
    """Joint inner product of two lists, a scalar."""
    return joint_sum([ops.sum(upcast(x) * upcast(y)) for x, y in zip(first, second)])


def climb(weights, gradients, length, epsilon=GUARD):
    """The weights moved by `length` along the gradients. A gradient of 0 leaves them where they are."""
    norm = global_norm(gradients)
    return move(weights, gradients, length / ops.where(norm > 0, norm + epsilon, 1.0))


def climb_adaptively(weights, gradients, variables, length, eta=0.01, chosen=everything):
    """The weights of chosen variables moved by `length` in units of their own sizes, as in `ASAM`."""

    def scale(weight, variable):
        if not chosen(variable):
            return ops.zeros_like(weight)
        return ops.ones_like(weight) if variable.name in _UNSCALED else ops.abs(weight) + eta

    scales = [scale(upcast(w), variable) for w, variable in zip(weights, variables)]
    scaled = [t * ops.cast(g, t.dtype) for t, g in zip(scales, gradients)]
    directions = [t * s for t, s in zip(scales, scaled)]
    return move(weights, directions, length / (global_norm(scaled) + 1e-16))
