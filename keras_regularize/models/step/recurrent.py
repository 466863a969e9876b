"""What stateful recurrent layers carry from batch to batch."""

from typing import Any

import keras
from keras import tree


def carried_states(model: keras.Model) -> list[keras.Variable]:
    """The states of all stateful recurrent layers in a model.

    Keras does not count them among the variables of a model: on TensorFlow and torch they change in passing, and
    on JAX they never move, in plain training either.
    """
    found: dict[int, Any] = {}
    _collect(model, found)
    layers = [layer for layer in found.values() if getattr(layer, "stateful", False)]
    states = tree.flatten([getattr(layer, "states", None) for layer in layers])
    return [state for state in states if isinstance(state, keras.Variable)]


def _collect(value, found):
    """Enters layers found in an attribute, or in a container or layer that it holds."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            _collect(part, found)
    elif isinstance(value, keras.Layer) and id(value) not in found:
        found[id(value)] = value
        _collect(vars(value), found)
