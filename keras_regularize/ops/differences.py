"""Differences of neighbouring pixels, and the map that is adjoint to them."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_regularize.autodiff import backend


def forward_differences(images: Any, axis: int) -> Any:
    """The next entry of `axis` less the present one, 0 at the last, in the shape of `images`."""
    last = _part(images, axis, -1, None)
    return ops.concatenate([_part(images, axis, 1, None), last], axis=axis) - images


def adjoint_differences(dual: Any, axis: int) -> Any:
    """The adjoint of `forward_differences`, for a `dual` whose last entries along `axis` are 0."""
    return backend.roll(dual, 1, axis) - dual


def inner_differences(like: Any, axis: int, factor: Any = 1.0) -> Callable[[Any, Any], Any]:
    """A function of a `dual` and images of one size: the dual and `factor` times their `forward_differences`.

    In fewer operations each time.
    """
    size = ops.shape(like)[axis]
    inner = ops.cast(ops.arange(size) < size - 1, like.dtype) * factor
    inner = ops.reshape(inner, (-1,) + (1,) * (-1 - axis))
    return lambda dual, images: backend.add_product(
        dual, backend.roll(images, -1, axis) - images, inner
    )


def axes_of_space(rank: int) -> tuple[int, int]:
    """Height and width of images `(…, height, width, channels)`, or of one `(height, width)`."""
    return (-2, -1) if rank == 2 else (-3, -2)


def _part(x, axis, start, stop):
    index = [slice(None)] * len(x.shape)
    index[axis] = slice(start, stop)
    return x[tuple(index)]
