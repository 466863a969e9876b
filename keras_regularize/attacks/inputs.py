"""Whether inputs are such that an attack can move them: checks before Keras takes over."""

import numpy as np
from keras import ops, tree

from keras_regularize.attacks.channels import per_channel
from keras_regularize.attacks.points import check_floating, movable


def check_inputs(attack, x):
    """Raises where an attack cannot move `x`, or `x` is not of the scale of its bounds."""
    if getattr(attack, "layer", None) is not None:
        return
    inputs = getattr(attack, "inputs", None)
    check_floating(x, inputs)
    bounds = getattr(attack, "bounds", None)
    if bounds is not None:
        check_within(x, bounds, attack.epsilon, inputs)


def check_within(x, bounds, epsilon, inputs=None):
    """Raises if clipping into `bounds` would move an input farther than `epsilon`, where values can be read.

    They cannot in specifications, and while a backend traces. Inputs that `inputs` does not name stay as they are.
    """
    leaves = [leaf for leaf, moves in zip(tree.flatten(x), movable(x, inputs)) if moves]
    arrays = [array for array in map(_values, leaves) if array is not None and array.size]
    if not arrays:
        return
    smallest = min(float(array.min()) for array in arrays)
    largest = max(float(array.max()) for array in arrays)
    if any(_is_outside(array, bounds[0], bounds[1], epsilon) for array in arrays):
        raise ValueError(
            f"Clipping into the attack's `bounds` would move the inputs farther than `epsilon`={epsilon}: "
            f"expected inputs in {bounds}, received {smallest:g} to {largest:g}. Pass the bounds of the "
            "data, or `bounds=None` where it has none (standardized inputs)"
        )


def _is_outside(array, low, high, epsilon):
    low, high, epsilon = (per_channel(value, array) for value in (low, high, epsilon))
    return bool(((low - array > epsilon) | (array - high > epsilon)).any())


def _values(leaf):
    """An array or tensor as a NumPy array of a float type that NumPy knows; `None` where it has no values."""
    if not isinstance(leaf, np.ndarray):
        try:
            leaf = ops.convert_to_numpy(leaf)
        except (TypeError, ValueError, NotImplementedError, AttributeError, RuntimeError):
            return None
    return leaf if leaf.dtype.kind == "f" else leaf.astype("float32")
