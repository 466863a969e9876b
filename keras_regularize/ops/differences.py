"""Differences of neighbouring pixels, and the map that is adjoint to them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_regularize.autodiff import backend


def forward_differences(images: Any, axis: int) -> Any:
    """The next entry of `axis` less the present one, 0 at the last, in the shape of `images`."""
    last = _part(images, axis, -1, None)
    return ops.concatenate([_part(images, axis, 1, None), last], axis=axis) - images


def differences_and_adjoint(
    like: Any, axes: tuple[int, int], factor: Any = 1.0
) -> tuple[Callable[[Sequence[Any], Any], list[Any]], Callable[[Sequence[Any]], Any]]:
    """Two functions for images of one size, in few operations each time.

    `forward(dual, images)` adds to a pair of duals `factor` times the `forward_differences` along both axes, and
    `adjoint(dual)` is the adjoint of the differences, for a dual that began with zeros.
    """
    shape = ops.shape(like)
    parts = []
    for axis in axes:
        inner = ops.cast(ops.arange(shape[axis]) < shape[axis] - 1, like.dtype) * factor
        inner = ops.reshape(inner, (-1,) + (1,) * (-1 - axis))
        parts.append((inner, math.prod(shape[axis:][1:])))

    # All pixels of an image move at once, which is fastest: what comes from another row is taken as 0, or is 0.
    def forward(dual, images):
        return [
            backend.add_product(part, backend.roll(images, -step, axes[0]) - images, inner)
            for part, (inner, step) in zip(dual, parts)
        ]

    def adjoint(dual):
        down, right = (
            backend.roll(part, step, axes[0]) - part for part, (_, step) in zip(dual, parts)
        )
        return down + right

    return forward, adjoint


def axes_of_space(rank: int) -> tuple[int, int]:
    """Height and width of images `(…, height, width, channels)`, or of one `(height, width)`."""
    return (-2, -1) if rank == 2 else (-3, -2)


def _part(x, axis, start, stop):
    index = [slice(None)] * len(x.shape)
    index[axis] = slice(start, stop)
    return x[tuple(index)]
