"""Passes of a network inside of which its slope is taken."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.numerics import upcast


def logits_and_squared_slopes(
    network: keras.Model, x: Any, training: bool, shown: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """What a network gives out for `shown(x)`, and the squared norm of its gradient in each sample of `x`.

    What the pass moves and its activity penalties are taken out of the derivative and handed on, as of a plain
    call.
    """
    state = network.non_trainable_variables

    def total(x):
        with _own_scope(network, collect_losses=True) as scope:
            logits = network(shown(x), training=training)
            moved = [scope.get_current_value(v) for v in state]
        return ops.sum(upcast(logits)), (logits, moved, list(scope.losses))

    x = upcast(ops.convert_to_tensor(x))
    (_, (logits, moved, penalties)), gradient = autodiff.value_and_grad(total, has_aux=True)(x)
    for variable, value in zip(state, moved):
        variable.assign(value)
    for penalty in penalties:
        network.add_loss(penalty)
    return logits, ops.sum(ops.square(gradient), axis=tuple(range(1, len(x.shape))))


def apart(network: keras.Model, training: bool) -> Callable[[Any], Any]:
    """A network as a function of its inputs alone: what the pass moves and adds to the loss is dropped."""

    def function(x):
        with _own_scope(network):
            return network(x, training=training)

    return function


def _own_scope(network, **options):
    mapping = [(variable, variable.value) for variable in network.variables]
    return keras.StatelessScope(state_mapping=mapping, **options)
