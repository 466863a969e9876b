"""Jacobians of what a function makes of each sample."""

import math

from keras import ops

from keras_regularize import autodiff
from keras_regularize.numerics import upcast


def flat(outputs):
    """`(batch, size)`, in at least float32."""
    outputs = upcast(outputs)
    size = math.prod(outputs.shape[1:])
    return ops.reshape(outputs, (ops.shape(outputs)[0], size))


def jacobian(function, x):
    """Jacobians `(batch, outputs, …)` of a function of `x (batch, …)` that treats samples independently.

    One pass over as many copies of the batch as there are outputs, each of which is asked for one of them. It can
    be differentiated again.
    """
    size = flat(function(x)).shape[-1]
    shape, one = ops.shape(x), ops.eye(size)

    def total(copies):
        outputs = ops.reshape(flat(function(copies)), (size, shape[0], size))
        return ops.sum(outputs * ops.cast(one[:, None, :], outputs.dtype))

    gradient = autodiff.grad(total)(ops.concatenate([x] * size, axis=0))
    return ops.moveaxis(ops.reshape(gradient, (size, *shape)), 0, 1)
