"""Exact Euclidean distances within masks."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.registration import export

_FAR = 1e30  # The square of a distance to nothing.
_BLOCK = 2**18  # Pairs looked at together where operations run one by one: they fit a cache.


@export
def euclidean_distance_transform(mask: Any, sampling: Sequence[float] | None = None) -> Any:
    r"""Distance of every nonzero pixel to the nearest zero pixel, exactly, also inside of compiled code.

    With the zero pixels $Z$ of an image and the size $h_a$ of a pixel along axis $a$,

    $$d_i = \min_{j \in Z} \sqrt{\textstyle\sum_a h_a^2\, (i_a - j_a)^2}.$$

    An image without any zero has distances of 0, where SciPy measures to a pixel that is not there. There is no
    gradient. Where values can be looked at and SciPy is installed, it does the work; elsewhere squares are
    minimized along one axis after the other.

    Args:
        mask: Numbers or bools `(batch, *spatial)`. Compiled code needs known sizes of space.
        sampling: Size of a pixel along each axis of space, or `None` for 1.

    Returns:
        Distances `(batch, *spatial)` in float32, 0 at zeros.

    Raises:
        ValueError: If there is no axis of space, a size is unknown, or `sampling` has another length.

    Cost: with SciPy some tens of operations per pixel. In a graph about `log n` along the first axis and a few for
    each pixel of the largest distance along every other, in five times the memory of the mask in float32; on
    PyTorch a few for each pixel of every axis.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.ops.euclidean_distance_transform(np.array([[0, 1, 1, 1, 0]]))  # 0, 1, 2, 1, 0
    ```

    Reference: Pedro F. Felzenszwalb, Daniel P. Huttenlocher, *Distance Transforms of Sampled Functions*, Theory of
    Computing 2012.
    """
    mask = ops.convert_to_tensor(mask)
    rank = len(mask.shape) - 1
    if rank < 1 or None in mask.shape[1:]:
        raise ValueError(
            "Expected a mask of shape (batch, *spatial) with known sizes of space. "
            f"Received: mask.shape={tuple(mask.shape)}"
        )
    sampling = [1.0] * rank if sampling is None else sampling
    if len(sampling) != rank:
        raise ValueError(
            f"`sampling` must have one number per axis of space, {rank}. Received: sampling={sampling!r}"
        )
    if 0 in mask.shape:
        return ops.cast(mask, "float32")
    values = backend.peek(mask)
    if values is not None and importlib.util.find_spec("scipy"):
        return ops.convert_to_tensor(
            distances_of_arrays(values, [float(size) for size in sampling])
        )
    return in_graph(mask, sampling)


def distances_of_arrays(masks, sampling=None):
    """The transform of an array `(batch, *spatial)`."""
    transform = importlib.import_module("scipy.ndimage").distance_transform_edt
    distances = np.zeros(masks.shape, "float32")
    for mask, distance in zip(masks, distances):
        if not mask.all():
            distance[...] = transform(mask, sampling)
    return distances


def in_graph(mask, sampling):
    """The transform by operations of a graph, minimizing squares along one axis after the other."""
    zero = ops.equal(mask, 0)
    found = ops.any(zero, axis=tuple(range(1, len(mask.shape))), keepdims=True)
    squares = ops.where(ops.logical_or(zero, ops.logical_not(found)), 0.0, _FAR)
    for axis, size in enumerate(sampling, start=1):
        moved = ops.moveaxis(squares, axis, 0)
        columns = ops.reshape(moved, (moved.shape[0], -1))
        if backend.RUNS_ONE_BY_ONE:
            least = _least_of_all_squares(columns, size)
        else:
            least = (_squares_of_distances if axis == 1 else _least_squares)(columns, size)
        squares = ops.moveaxis(ops.reshape(least, ops.shape(moved)), 0, axis)
    return ops.sqrt(squares)


def _least_of_all_squares(columns, size):
    """`min_j columns[j] + (size · (i - j))²` of all pairs, so many entries at a time as make a block."""
    number, width = columns.shape
    places = ops.arange(number, dtype="float32") * size
    squares = (places[:, None] - places) ** 2
    step = max(1, _BLOCK // (number * width))
    return ops.concatenate(
        [ops.min(squares[i : i + step, :, None] + columns, axis=1) for i in range(0, number, step)],
        axis=0,
    )


def _squares_of_distances(columns, size):
    """Of each entry `(n, …)` to the nearest 0 of its column, by steps of 1, 2, 4 …"""
    number, step = columns.shape[0], 1
    distance = ops.where(columns > 0, 2.0 * number, 0.0)
    while step < number:
        padded = ops.pad(distance, ((step, step), (0, 0)), constant_values=2.0 * number)
        nearer = ops.minimum(padded[: -2 * step], padded[2 * step :]) + step
        distance = ops.minimum(distance, nearer)
        step *= 2
    return ops.where(distance < number, (distance * size) ** 2, _FAR)


def _least_squares(columns, size):
    """`min_j columns[j] + (size · (i - j))²`, to the offset from where on no square can be the least."""
    number, width = columns.shape[0], ops.shape(columns)[1]
    padded = ops.pad(columns, ((number, number), (0, 0)), constant_values=_FAR)

    def square(offset):
        return (ops.cast(offset, "float32") * size) ** 2

    def unfinished(offset, least):
        return ops.logical_and(offset < number, square(offset) < ops.max(least))

    def further(offset, least):
        above = ops.slice(padded, (number - offset, 0), (number, width))
        below = ops.slice(padded, (number + offset, 0), (number, width))
        return offset + 1, ops.minimum(least, ops.minimum(above, below) + square(offset))

    start = ops.convert_to_tensor(1, dtype="int32")
    return ops.while_loop(unfinished, further, (start, columns))[1]
