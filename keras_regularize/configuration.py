"""Configs that are read from the signature of the constructor, as scikit-learn reads its parameters."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


class Configured:
    """Gives a class `get_config` and `from_config`: an attribute has the name of its constructor argument.

    Comes before the base of Keras: `class MyLoss(Configured, keras.losses.Loss)`. A subclass writes nothing but
    its constructor. A variable may have the name of the argument that it starts from, which is then kept as
    `initial_<name>`. Arguments stored in another form are those of a class with its own `get_config`, which
    adds all that its constructor names to what `super().get_config()` gives.
    """

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument as a plain value."""
        try:
            config: dict[str, Any] = getattr(super(), "get_config", dict)()
        except NotImplementedError:  # `keras.regularizers.Regularizer` and schedules have none.
            config = {}
        return with_arguments(self, config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """The object of a config."""
        return cls(**deserialize_entries(config, custom_objects))


def with_arguments(instance: Configured, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the constructor takes: of the `config` of a base, and the arguments that are not in it."""
    names, passed_on = _arguments(type(instance))
    config = {name: value for name, value in config.items() if passed_on or name in names}
    return config | {name: _plain(_value(instance, name)) for name in names if name not in config}


def deserialize_entries(config: Mapping[str, Any], custom_objects: Any = None) -> dict[str, Any]:
    """A config with the Keras objects in it (a model, an optimizer, a schedule) made again."""
    return {
        key: keras.saving.deserialize_keras_object(value, custom_objects)
        if isinstance(value, Mapping) and "class_name" in value
        else value
        for key, value in config.items()
    }


def _arguments(cls):
    """Names of the arguments of a constructor, and whether it passes others on to that of Keras."""
    names = []
    for base in cls.__mro__[: cls.__mro__.index(Configured)]:
        own = vars(base)
        if "__init__" not in own or "get_config" in own:
            continue
        _, *parameters = inspect.signature(own["__init__"]).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        names += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return names, False
    return names, True


def _value(instance, name):
    for attribute in (f"initial_{name}", name):
        if hasattr(instance, attribute):
            return getattr(instance, attribute)
    kind = type(instance).__name__
    raise AttributeError(
        f"The config of `{kind}` needs its argument `{name}` as an attribute of that name; "
        f"or `{kind}` needs a `get_config` of its own."
    )


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    return keras.saving.serialize_keras_object(value)
