"""Variables of a built model: choosing them, what is attached to them, and weights as large as they are."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_regularize.configuration import Configured
from keras_regularize.registration import export

#: Names of what normalization layers learn: scales and shifts that pruning and decay leave alone.
NORMALIZATION = ("gamma", "beta", "scale")

# Attributes under which Keras' wrappers and recurrent layers keep the layers that their config contains.
_INNER_LAYERS = ("cell", "cells", "layer", "forward_layer", "backward_layer")


def attach(model: keras.Layer, value: Any, where: Any, kind: str) -> list[keras.Variable]:
    """Sets `value` as the `kind` ("regularizer" or "constraint") of chosen variables.

    Sets both the variable's attribute, which acts, and the layer's, which is saved where the layer is.
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: {model!r}")
    inside = model
    while not inside.built and isinstance(getattr(inside, "model", None), keras.Model):
        inside = inside.model  # A train-step wrapper is as built as what it wraps.
    if not inside.built:
        raise ValueError(
            f"`attach` needs a built model, whose weights exist. Received: {model.name!r}, which is not "
            "built; call it on data or give it an `Input` first."
        )
    chosen = chooser(where)
    make = _maker(value, kind)
    owners, saved = all_owners(model), {id(layer) for layer in _in_config(model)}
    touched, lost = [(v, make(v)) for v in model.weights if chosen(v)], []
    if not touched:
        names = sorted({variable.name for variable in model.weights})
        raise ValueError(
            f"`where` chooses no variable of {model.name!r}. Received: where={where!r}; the model's "
            f"variables are called {names}."
        )
    for variable, made in touched:
        setattr(variable, kind, made)
        layer = owners.get(id(variable))
        attribute = _attribute(layer, variable, kind)
        if attribute is not None:
            setattr(layer, attribute, made)
        if id(layer) not in saved or attribute not in _config(layer):
            lost.append(variable.path)
    if lost:
        warnings.warn(
            f"The {kind} acts but cannot be saved: a model that is loaded again lacks it on {lost}, whose "
            "layers are made by the constructor of the layer or model around them. Attach again after loading."
        )
    return [variable for variable, _ in touched]


@export
class AllBut(Configured):
    """Chooses all variables but those of some names, as the `where` of a method.

    It is saved with the model or the optimizer that it is part of, as names, lists of them and functions
    registered with Keras are. A plain `lambda` serves as well, but Keras warns of it at saving and refuses to
    load it.

    Args:
        names: Names of variables, or of layers on their path, that are left out.

    Input: a variable. Output: whether it is chosen.

    Raises:
        ValueError: If `names` is not a list of strings.

    Cost: none during training.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    where = kr.utils.AllBut(["bias", "gamma", "beta"])
    optimizer = kr.optimizers.DecoupledWeightDecay(keras.optimizers.Adam(), 0.01, where=where)
    ```
    """

    def __init__(self, names: Sequence[str]):
        if not _are_names(names):
            raise ValueError(f"`names` must be a list of names. Received: names={names!r}")
        self.names = list(names)

    def __call__(self, variable: keras.Variable) -> bool:
        return not is_named(variable, self.names)

    def __repr__(self) -> str:
        return f"AllBut({self.names!r})"


def check_where(where: Any, optional: bool = True) -> Any:
    """The argument `where`, as `chooser` takes it, checked and as a plain value."""
    if isinstance(where, str) or callable(where) or (optional and where is None):
        return where
    if _are_names(where):
        return list(where)
    raise ValueError(
        "`where` must be the name of a variable, a list of names of variables or layers, or a function of the "
        f"variable{', or None' if optional else ''}. Received: where={where!r}"
    )


def chooser(
    where: Any, default: Callable[[keras.Variable], bool] | None = None
) -> Callable[[keras.Variable], bool]:
    """A function that says of a variable whether a method acts on it.

    `where` is the name of the variable; a list of names of variables, or of layers on their path; a function of
    the variable such as `AllBut`; or `None` for `default`, the rule of the method.
    """
    where = check_where(where, optional=default is not None)
    if where is None and default is not None:
        return default
    if isinstance(where, str):
        return lambda variable: variable.name == where
    if callable(where):
        return where
    return lambda variable: is_named(variable, where)


def everything(variable: keras.Variable) -> bool:
    """The default rule of methods that act on all variables."""
    return True


def is_matrix(variable: keras.Variable) -> bool:
    """The default rule of methods that act on kernels and embeddings: of rank 2 and more."""
    return len(variable.shape) >= 2


def is_named(variable: keras.Variable, names: Sequence[str]) -> bool:
    """Whether a name is that of the variable or of a layer on its path."""
    return not set(variable.path.split("/")).isdisjoint(names)


def _are_names(value):
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return listed and all(isinstance(entry, str) for entry in value)


def _maker(value: Any, kind: str) -> Callable[[keras.Variable], Any]:
    module = getattr(keras, f"{kind}s")
    base = getattr(module, kind.capitalize())
    if callable(value) and not isinstance(value, base) and not inspect.isclass(value):
        return lambda variable: module.get(value(variable))
    shared = module.get(value)
    return lambda variable: shared


def weight_like(
    layer: keras.Layer,
    variable: keras.Variable,
    initializer: Any = "zeros",
    dtype: str | None = None,
    **options: Any,
) -> keras.Variable:
    """A weight for `layer` of the shape of `variable`, split over the devices as that one is.

    `Layer.add_weight` looks a layout up by the new weight's own path, of which a layout map that was written for
    the model knows nothing: the weight would be whole on every device. The layer tracks what is returned when it
    is kept as an attribute or in a list that is one. `options` are those of `keras.Variable`.
    """
    distribution = keras.distribution.distribution()
    with keras.name_scope(layer.name, caller=layer):
        return keras.Variable(
            initializer,
            shape=variable.shape,
            dtype=dtype or layer.variable_dtype,
            layout=None if distribution is None else distribution.get_variable_layout(variable),
            **options,
        )


def layers_of(layer: keras.Layer) -> Iterator[keras.Layer]:
    """A layer and all layers in it whose config its own contains, those of nested models and wrappers too."""
    yield layer
    inner = list(layer.layers) if isinstance(layer, keras.Model) else []
    for name in _INNER_LAYERS:
        found = getattr(layer, name, None)
        inner.extend(found if isinstance(found, (list, tuple)) else [found])
    for child in inner:
        if isinstance(child, keras.Layer):
            yield from layers_of(child)


def all_owners(model: keras.Layer) -> dict[int, keras.Layer]:
    """The layer that each variable belongs to itself, by the variable's id, wherever the layer is kept."""
    owners: dict[int, keras.Layer] = {}
    for layer in every_layer(model):
        below = {id(variable) for child in _inside(layer) for variable in child.weights}
        owners |= {id(v): layer for v in layer.weights if id(v) not in below}
    return owners


def every_layer(model: keras.Layer) -> Iterator[keras.Layer]:
    """A layer and all layers in it, wherever they are kept, each once."""
    seen, waiting = set(), [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            waiting.extend(_inside(layer))


def _inside(layer: keras.Layer) -> list[keras.Layer]:
    return [*_layers_in(vars(layer)), *_layers_in(getattr(layer, "layers", ()))]


def _layers_in(structure: Any) -> Iterator[keras.Layer]:
    if isinstance(structure, keras.Layer):
        yield structure
    elif isinstance(structure, (dict, list, tuple)):
        for entry in structure.values() if isinstance(structure, dict) else structure:
            yield from _layers_in(entry)


def _in_config(layer: keras.Layer) -> Iterator[keras.Layer]:
    """A layer and those in it whose own config is part of its config, so that they are made from it again."""
    yield layer
    inner = [getattr(layer, name, None) for name in _INNER_LAYERS]
    if isinstance(layer, keras.Model):
        config = _config(layer)
        inner = [layer.layers] if "layers" in config else [getattr(layer, k, None) for k in config]
    for child in _layers_in(inner):
        yield from _in_config(child)


def _config(layer: keras.Layer) -> dict[str, Any]:
    try:
        return layer.get_config()
    except Exception:  # Of a layer that cannot be saved, which may raise anything.
        return {}


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
