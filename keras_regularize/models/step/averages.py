"""Averages of the weights that an optimizer keeps (`use_ema=True`)."""

from keras import ops


def keep_apart(model):
    """Gives weights that `fit` has put averages in their own memory.

    On JAX Keras 3.15 leaves both in one array, which the next `fit` or `predict` then deletes under the other.
    """
    if getattr(model.optimizer, "use_ema", False):
        for variable in model.trainable_variables:
            variable.assign(ops.copy(variable.value))
