"""The box that inputs live in, and the ball around them that an attack searches."""

from collections.abc import Sequence
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_regularize.attacks.attack import per_sample_norm
from keras_regularize.attacks.channels import per_channel
from keras_regularize.numerics import GUARD
from keras_regularize.validation import check_numbers

Bounds: TypeAlias = tuple[float | Sequence[float], float | Sequence[float]]


def check_bounds(bounds, layer):
    """`bounds` as a list of two numbers, or of two lists with one per channel; or `None`, checked."""
    if bounds is None:
        return None
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
        raise ValueError(
            "`bounds` must be two numbers or None; each of the two may be a list of one per channel. "
            f"Received: bounds={bounds!r}"
        )
    values = [check_numbers("bounds", bound) for bound in bounds]
    sizes = {len(value) for value in values if isinstance(value, list)}
    if len(sizes) > 1 or not np.all(np.less(*values)):
        raise ValueError(
            f"`bounds` must be increasing, in every channel. Received: bounds={bounds!r}"
        )
    if layer is not None:
        raise ValueError(
            "`bounds` are those of the inputs, and with `layer` the inputs are not moved: pass `bounds=None`. "
            f"Received: bounds={bounds!r}, layer={layer!r}"
        )
    return values


def clip_to_bounds(leaves, bounds):
    if bounds is None:
        return leaves
    low, high = bounds
    if isinstance(low, list) or isinstance(high, list):
        return [
            ops.minimum(ops.maximum(leaf, per_channel(low, leaf)), per_channel(high, leaf))
            for leaf in leaves
        ]
    return [ops.clip(leaf, low, high) for leaf in leaves]


def project(start, leaves, norm, epsilon, bounds):
    """`leaves` moved into the ball of radius `epsilon` around `start`, then into the bounds.

    In L2 a radius per channel makes an ellipsoid: the ball of the inputs whose channels have a common unit.
    """
    if norm == "linf":
        radii = [per_channel(epsilon, s) for s in start]
        leaves = [ops.clip(x, s - e, s + e) for x, s, e in zip(leaves, start, radii)]
    else:
        moves = [x - s for x, s in zip(leaves, start)]
        radius, lengths = epsilon, moves
        if isinstance(epsilon, list):
            radius, lengths = 1.0, in_radii(moves, epsilon)
            moves = [u * per_channel(epsilon, u) for u in lengths]
        norms = per_sample_norm(lengths)
        leaves = [
            s + m * ops.minimum(1.0, radius / (n + GUARD)) for s, m, n in zip(start, moves, norms)
        ]
    return clip_to_bounds(leaves, bounds)


def in_radii(moves, epsilon):
    """Moves in units of the radius, 0 where that is 0."""
    radii = [ops.convert_to_tensor(per_channel(epsilon, m), m.dtype) for m in moves]
    return [ops.where(e > 0, m / ops.where(e > 0, e, 1.0), 0.0) for m, e in zip(moves, radii)]


def in_common_unit(gradient, epsilon):
    """A gradient (up to its length) in inputs whose channels are scaled to a common unit, as their radii are."""
    if not isinstance(epsilon, list):
        return gradient
    return [g * per_channel(epsilon, g) for g in gradient]


def uniform_noise(like, epsilon, seed):
    """Uniform between `-epsilon` and `epsilon`, in the shape of a tensor."""
    noise = keras.random.uniform(ops.shape(like), -1.0, 1.0, like.dtype, seed=seed)
    return per_channel(epsilon, like) * noise
