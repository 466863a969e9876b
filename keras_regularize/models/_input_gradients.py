"""Gradients of every sample's loss with respect to what a model is fed, inside an objective."""

import contextlib

from keras import ops

from keras_regularize import autodiff
from keras_regularize.attacks.points import Point, ids_refused


def input_gradients(forward, batch, layer=None, shift=None, inputs=None):
    """Gradients of the compiled loss per sample with respect to the floating inputs (those named): a list.

    With `layer`, those with respect to that layer's output. `shift(leaf)` may move the point. The result
    can be differentiated with respect to the weights of `forward`.
    """
    point = Point(forward, batch.x, layer, training=True, inputs=inputs)
    leaves = point.start if shift is None else [leaf + shift(leaf) for leaf in point.start]

    def total(leaves):
        return ops.sum(forward.sample_losses(batch.y, point.outputs(leaves)))

    at_layer = layer is not None
    with contextlib.nullcontext() if at_layer else ids_refused(forward, batch.x, inputs):
        return autodiff.grad(total)(leaves)


def inner_products(one, other):
    """Inner products of two lists of gradients, per sample: `(batch,)`."""
    return sum(
        ops.sum(a * b, axis=tuple(range(1, len(a.shape)))) if len(a.shape) > 1 else a * b
        for a, b in zip(one, other)
    )
