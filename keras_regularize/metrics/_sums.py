"""Sums over millions of samples that stay exact in float32: sequential ones lose a digit at 8 million.

Within an update no partial sum has more than 64 terms; between updates a sum is two numbers, of which the second
holds what rounding took from the first. Both add up over replicas.
"""

import contextlib

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend

_TERMS = 64
_LEVELS = 5  # 64⁵ terms, where the number is not known before the graph runs.


def add_sums(metric, shape):
    """A variable of a metric for sums of the given shape."""
    return metric.add_variable((2, *shape), "zeros", "float32", name="sums")


def accumulate(sums, values):
    """Adds to such a variable, with the rounding error of the addition (Knuth)."""
    value, values = backend.looked_at([backend.read(sums), values])
    high, low = value[0], value[1]
    with in_silence(values):
        total = high + values
        added = total - high
        low = low + ((high - (total - added)) + (values - added))
    sums.assign(backend.stack([total, low]))


def numpy_or_ops(x):
    """The module whose functions take `x`, which `backend.looked_at` has given: they have the same names."""
    return np if isinstance(x, np.ndarray) else ops


def in_silence(x):
    """Context in which arrays of `backend.looked_at` overflow as silently as tensors."""
    return np.errstate(all="ignore") if isinstance(x, np.ndarray) else contextlib.nullcontext()


def total(sums):
    """The values of such a variable."""
    value = sums.value
    return value[0] + value[1]


def segment_sums(columns, segments, num_segments):
    """Sums of the entries of every segment: `(num_segments, k)`.

    The `k` columns are `(n, …)`, as `segments`, integers; those beyond 0 and `num_segments - 1` count there.
    """
    sums = backend.exact_segment_sums(columns, segments, num_segments)
    if sums is not None:
        return sums
    values, segments = ops.stack(columns, axis=-1), ops.clip(segments, 0, num_segments - 1)
    size, columns = ops.shape(values)[0], values.shape[-1]
    known = isinstance(size, int)
    if known and size <= _TERMS:
        return _sums(segments, values, num_segments)
    # Every 64 samples have a table of their own, then every 64 tables.
    blocks = size // _TERMS + 1
    block = ops.arange(size, dtype="int32") // _TERMS * num_segments
    for _ in range(len(segments.shape) - 1):
        block = block[:, None]
    table = _sums(block + segments, values, blocks * num_segments)
    table = ops.reshape(table, (blocks, num_segments, columns))
    levels = _LEVELS - 1
    while blocks > _TERMS if known else levels:
        levels -= 1
        block = ops.arange(blocks, dtype="int32") // _TERMS
        blocks = blocks // _TERMS + 1
        table = ops.segment_sum(table, block, num_segments=blocks)
    return ops.sum(table, axis=0)


def _sums(segments, values, num_segments):
    if len(segments.shape) > 1:
        values = ops.reshape(values, (-1, values.shape[-1]))
        segments = ops.reshape(segments, (-1,))
    return ops.segment_sum(values, segments, num_segments=num_segments)
