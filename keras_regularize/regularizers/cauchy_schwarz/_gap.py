"""The gap of the Cauchy-Schwarz inequality without cancellation."""

from typing import Any

from keras import ops

from keras_regularize.numerics import maximum, safe_abs, safe_sqrt
from keras_regularize.utils.groups import group_sums

FORMS = ("product", "difference", "ratio")

# Products of norms below it count as zero: their squares, which the gradient of a quotient has, would underflow.
_SMALLEST = 1e-18
# Bounds the ratio where the two vectors are orthogonal.
_LARGEST_RATIO = 1e6


def gap(g: Any, h: Any, axis: Any = None, form: str = "product") -> Any:
    r"""How far vectors `g` and `h` of the same shape are from parallel, per group (see `group_sums`).

    `"product"` is $|g|^2 |h|^2 - \langle g, h\rangle^2$, `"difference"` $|g| |h| - |\langle g, h\rangle|$ and
    `"ratio"` $|g| |h| / |\langle g, h\rangle| - 1$. All come from the part of `g` that is orthogonal to `h`,
    because the difference of two large products has no correct digit where it is small.
    """
    square = group_sums(h * h, axis)
    nonzero = square > 0

    def without_parallel_part(vector):
        # The coefficient minimizes what is left, so its own gradient is zero.
        along = ops.where(
            nonzero, group_sums(vector * h, axis) / ops.where(nonzero, square, 1.0), 0.0
        )
        return vector - ops.stop_gradient(along) * h

    # Twice: of vectors that are parallel the first leaves what its coefficient was rounded by.
    rest = group_sums(ops.square(without_parallel_part(without_parallel_part(g))), axis)
    if form == "product":
        return square * rest
    inner = safe_abs(group_sums(g * h, axis))
    product = safe_sqrt(group_sums(g * g, axis)) * safe_sqrt(square)
    total = product + inner
    proper = total > _SMALLEST
    difference = rest * (ops.where(proper, square, 0.0) / ops.where(proper, total, 1.0))
    if form == "difference":
        return difference
    return difference / ops.where(proper, maximum(inner, product / _LARGEST_RATIO), 1.0)
