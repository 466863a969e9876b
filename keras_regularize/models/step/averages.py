"""Averages of the weights that an optimizer keeps (`use_ema=True`)."""

from keras import ops


def keep_apart(model):
    """Gives weights that `fit` has put averages in their own memory.

    On JAX Keras 3.15 leaves both in one array, which the next `fit` or `predict` then deletes under the other.
    """
    optimizers = getattr(model.optimizer, "optimizers", [model.optimizer])
    if any(getattr(getattr(o, "inner_optimizer", o), "use_ema", False) for o in optimizers):
        for variable in model.trainable_variables:
            variable.assign(ops.copy(variable.value))
