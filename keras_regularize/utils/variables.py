"""Choosing variables of a built model and setting their regularizer or constraint."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

# Attributes under which Keras' wrappers and recurrent layers keep the layers that their config contains.
_INNER_LAYERS = ("cell", "cells", "layer", "forward_layer", "backward_layer")


def attach(model: keras.Layer, value: Any, where: Any, kind: str) -> list[keras.Variable]:
    """Sets `value` as the `kind` ("regularizer" or "constraint") of chosen variables, all or none.

    Sets both the variable's attribute, which acts, and the layer's, which is saved.
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: {model!r}")
    if not model.built:
        raise ValueError(
            f"`attach` needs a built model, whose weights exist. Received: {model.name!r}, which is not "
            "built; call it on data or give it an `Input` first."
        )
    chosen = _chooser(where)
    make = _maker(value, kind)
    targets = []
    owners = owners_of(model)
    for variable in model.weights:
        if chosen(variable):
            layer = owners.get(id(variable))
            attribute = _attribute(layer, variable, kind)
            if attribute is None:
                raise ValueError(
                    f"The layer that owns the variable `{variable.path}` has no public attribute for its "
                    f"{kind}, so it would be lost on saving. Use `kr.models.WeightPenalty` for a penalty on "
                    "such variables, or leave them out with `where`."
                )
            targets.append((variable, layer, attribute, make(variable)))
    if not targets:
        names = sorted({variable.name for variable in model.weights})
        raise ValueError(
            f"`where` chooses no variable of {model.name!r}. Received: where={where!r}; the model's "
            f"variables are called {names}."
        )
    for variable, layer, attribute, made in targets:
        setattr(variable, kind, made)
        setattr(layer, attribute, made)
    return [variable for variable, *_ in targets]


def _chooser(where: Any) -> Callable[[keras.Variable], bool]:
    if isinstance(where, str):
        return lambda variable: variable.name == where
    if callable(where):
        return where
    raise ValueError(
        "`where` must be the name of a variable or a function of the variable. "
        f"Received: where={where!r}"
    )


def _maker(value: Any, kind: str) -> Callable[[keras.Variable], Any]:
    module = getattr(keras, f"{kind}s")
    base = getattr(module, kind.capitalize())
    if callable(value) and not isinstance(value, base) and not inspect.isclass(value):
        return lambda variable: module.get(value(variable))
    shared = module.get(value)
    return lambda variable: shared


def owners_of(model: keras.Layer, further: Sequence[str] = ()) -> dict[int, keras.Layer]:
    """The innermost layer whose own config describes the variable, by the variable's id.

    `further` names attributes of layers that the config of the layer around them leaves out.
    """
    owners = {}
    for layer in layers_of(model, further):
        for variable in layer.weights:
            owners[id(variable)] = layer  # Outer layers come first, inner ones replace them.
    return owners


def layers_of(layer: keras.Layer, further: Sequence[str] = ()) -> Iterator[keras.Layer]:
    """A layer and all layers in it, those of nested models and wrappers too; `further` as in `owners_of`."""
    yield layer
    inner = list(layer.layers) if isinstance(layer, keras.Model) else []
    for name in (*_INNER_LAYERS, *further):
        found = getattr(layer, name, None)
        inner.extend(found if isinstance(found, (list, tuple)) else [found])
    for child in inner:
        if isinstance(child, keras.Layer):
            yield from layers_of(child, further)


def _attribute(layer: keras.Layer, variable: keras.Variable, kind: str) -> str | None:
    """`kernel_regularizer` for `kernel`, `recurrent_regularizer` for `recurrent_kernel` …"""
    names = [variable.name, variable.name.removesuffix("_kernel")]
    if variable.name == "kernel":
        names.append("depthwise")  # The kernel of a depthwise convolution is called just that.
    for name in names:
        attribute = f"{name}_{kind}"
        if hasattr(layer, attribute):
            return attribute
    return None
