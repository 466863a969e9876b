"""Groups of weights: what a filter is to the methods that treat filters as vectors."""

from typing import Any

from keras import ops

from keras_regularize.numerics import safe_sqrt, upcast


def check_axis(axis: Any) -> int | tuple[int, ...] | None:
    """`axis`, which must be None, an integer or a sequence of distinct integers, as a tuple then."""
    if axis is None:
        return None
    axes: list[Any] = (
        [axis]
        if isinstance(axis, int)
        else list(axis)
        if isinstance(axis, (tuple, list))
        else [None]
    )
    if len(set(axes)) != len(axes) or not all(type(a) is int for a in axes):
        raise ValueError(
            "`axis` must be an integer, a tuple of distinct integers or None. "
            f"Received: axis={axis!r}"
        )
    return axis if isinstance(axis, int) else tuple(axes)


def member_axes(shape: Any, axis: Any = -1) -> tuple[int, ...]:
    """Axes along which the members of a group lie, if `axis` names those that index the groups.

    `-1` gives one group per filter, `(-2, -1)` one per spatial kernel, `None` one in all.
    """
    rank = len(shape)
    axes = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(
            f"`axis` must name axes of the weight. Received: axis={axis!r} for a weight of shape "
            f"{tuple(shape)}"
        )
    kept = {a % rank for a in axes}
    return tuple(a for a in range(rank) if a not in kept)


def group_sums(values: Any, axis: Any = -1) -> Any:
    """Sum over each group, with the rank of `values` (size one off the group axes)."""
    members = member_axes(values.shape, axis)
    # An empty tuple of axes means "all" on torch.
    return ops.sum(values, axis=members, keepdims=True) if members else values


def group_norms(weight: Any, axis: Any = -1) -> Any:
    """Euclidean norm of each group, with the rank of `weight` (size one off the group axes).

    In at least float32; a zero group has gradient 0.
    """
    weight = upcast(weight)
    return safe_sqrt(group_sums(weight * weight, axis))


def filter_matrix(weight: Any) -> Any:
    """A kernel `(…, in, out)` as the matrix `(fan_in, out)`, in at least float32; a vector is one row."""
    weight = upcast(weight)
    return ops.reshape(weight, (-1, weight.shape[-1] if len(weight.shape) else 1))
