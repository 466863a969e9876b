"""Inputs that noise can be added to."""

from keras import tree

from keras_regularize.attacks.points import is_floating


def check_floating_inputs(model, x):
    """Raises if no array, tensor or specification of a structure is floating."""
    leaves = [leaf for leaf in tree.flatten(x) if leaf is not None]
    if not any(is_floating(leaf) for leaf in leaves):
        raise ValueError(
            f'`{type(model).__name__}` needs floating inputs: convert images by `x.astype("float32")`. '
            f"Received inputs of dtype {', '.join(sorted({str(leaf.dtype) for leaf in leaves}))}"
        )
