"""The box that inputs live in, and the ball around them that an attack searches."""

from keras import ops

from keras_regularize.attacks.attack import per_sample_norm
from keras_regularize.numerics import GUARD
from keras_regularize.validation import check_number


def check_bounds(bounds, layer):
    """`bounds` as a list of two numbers or `None`, checked."""
    if bounds is None:
        return None
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
        raise ValueError(f"`bounds` must be two numbers or None. Received: bounds={bounds!r}")
    values = [check_number("bounds", bound) for bound in bounds]
    if bounds[0] >= bounds[1]:
        raise ValueError(f"`bounds` must be increasing. Received: bounds={bounds!r}")
    if layer is not None:
        raise ValueError(
            "`bounds` are those of the inputs, and with `layer` the inputs are not moved: pass `bounds=None`. "
            f"Received: bounds={bounds!r}, layer={layer!r}"
        )
    return values


def clip_to_bounds(leaves, bounds):
    return leaves if bounds is None else [ops.clip(leaf, *bounds) for leaf in leaves]


def project(start, leaves, norm, epsilon, bounds):
    """`leaves` moved into the ball of radius `epsilon` around `start`, then into the bounds."""
    if norm == "linf":
        leaves = [ops.clip(x, s - epsilon, s + epsilon) for x, s in zip(leaves, start)]
    else:
        moves = [x - s for x, s in zip(leaves, start)]
        norms = per_sample_norm(moves)
        leaves = [
            s + m * ops.minimum(1.0, epsilon / (n + GUARD)) for s, m, n in zip(start, moves, norms)
        ]
    return clip_to_bounds(leaves, bounds)
