"""Samples as points: rows, lengths, pairs and the shortest tree that joins them; of any finite size."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import safe_norm, squared_distances, upcast


def feature_rows(x: Any) -> Any:
    """Features `(batch, …)` as rows `(batch, dim)` in at least float32."""
    x = upcast(x)
    if len(x.shape) < 2:
        raise ValueError(
            "Expected features `(batch, …)` of at least one axis beside the batch. "
            f"Received: shape={tuple(x.shape)}"
        )
    if len(x.shape) == 2:
        return x
    if None in x.shape[1:]:
        return ops.reshape(x, (ops.shape(x)[0], -1))
    return ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def pair_squares(x: Any, to_constants: bool = False) -> tuple[Any, Any]:
    """`(squares, scale)`: the squared distances `(n, n)` of rows are `squares * scale ** 2`, 0 on the diagonal.

    The scale is 1 unless squares of the rows would overflow. With `to_constants` the gradient of row `i` is that
    to sample `i` alone.
    """
    # Equal rows are at 0 then, and not only near it.
    x = x - ops.stop_gradient(x[:1])
    scale = _scale(x)
    x = x / scale
    squares = squared_distances(x, ops.stop_gradient(x) if to_constants else x)
    return ops.where(same_row(x), 0.0, squares), scale


def same_row(x: Any) -> Any:
    """Where a pair `(n, n)` is a row of `x` with itself."""
    index = ops.arange(ops.shape(x)[0], dtype="int32")
    return index[:, None] == index[None, :]


def lengths(x: Any) -> Any:
    """Euclidean norms of rows, with gradient 0 at zero vectors."""
    scale = _scale(x, axis=-1)
    return scale[..., 0] * safe_norm(x / scale, axis=-1)


def tree_edges(x: Any) -> Any:
    """Lengths `(n,)` of the edges of the shortest tree that joins the rows; the one of the first row is 0."""
    neighbours = spanning_tree(pair_squares(ops.stop_gradient(x))[0])
    return lengths(x - ops.take(x, neighbours, axis=0))


def _scale(x, axis=None):
    """What to divide by so that squares do not overflow: 1 but for entries above 1e15."""
    largest = ops.max(
        ops.abs(ops.stop_gradient(x)), axis=axis, keepdims=axis is not None, initial=0.0
    )
    return ops.where(largest > 1e15, largest, ops.ones_like(largest))


def spanning_tree(distances: Any) -> Any:
    """The shortest tree that joins `n` points: a neighbour `(n,)` of each point, itself for point 0.

    Takes distances `(n, n)`, squared or not, of which it has no gradient: Prim's algorithm, `n - 1` steps of `n`
    operations. Of equal distances it takes the lowest index.
    """
    distances = ops.stop_gradient(distances)
    values = backend.peek(distances)
    if values is None and backend.RUNS_ONE_BY_ONE and backend.readable(distances):
        values = ops.convert_to_numpy(
            distances
        )  # One transfer in the place of thousands of kernels.
    if values is not None:
        return ops.convert_to_tensor(_prim(values), dtype="int32")
    count = ops.shape(distances)[0]
    index = ops.arange(count, dtype="int32")

    def step(_, state):
        left, neighbours = state
        shortest = ops.min(left)
        point = ops.min(ops.where(left <= shortest, index, count - 1))
        row = ops.take(distances, point, axis=0)
        outside = ops.logical_and(left < np.inf, index != point)
        closer = ops.logical_and(outside, row < left)
        left = ops.where(outside, ops.where(closer, row, left), np.inf)
        return left, ops.where(closer, point, neighbours)

    # In the tree a point is at an infinite distance from it.
    start = ops.where(index == 0, np.inf, ops.take(distances, 0, axis=0))
    return ops.fori_loop(0, count - 1, backend.in_branch(step), (start, ops.zeros_like(index)))[1]


def _prim(distances):
    distances = np.array(distances)
    neighbours = np.zeros(len(distances), "int32")
    if not len(distances):
        return neighbours
    left, point = np.full(len(distances), np.inf, distances.dtype), np.intp(0)
    for _ in range(len(distances) - 1):
        distances[:, point] = left[point] = np.inf
        row = distances[point]
        closer = row < left
        neighbours[closer] = point
        np.minimum(left, row, out=left)
        point = left.argmin()
    return neighbours


def mean_slopes(outputs: Any, inputs: Any, bandwidth: float) -> Any:
    """`(n,)`, the kernel averages $s$ of squared differences of outputs."""
    f, x = feature_rows(_columns(outputs)), feature_rows(_columns(inputs))
    if None not in (n := (f.shape[0], x.shape[0])) and n[0] != n[1]:
        raise ValueError(
            "Expected an output for each input. "
            f"Received: shapes {tuple(f.shape)} and {tuple(x.shape)}"
        )
    x = ops.cast(ops.stop_gradient(x), f.dtype)
    kernels = ops.exp(-squared_distances(x, x) / (4.0 * bandwidth))
    kernels = ops.where(same_row(x), 0.0, kernels)
    total = ops.sum(kernels, axis=1)
    some = total > 0
    sums = ops.sum(kernels * squared_distances(f, f), axis=1)
    return ops.where(some, sums / ops.where(some, total, 1.0), 0.0)


def _columns(x):
    x = upcast(x)
    return x[:, None] if len(x.shape) == 1 else x
