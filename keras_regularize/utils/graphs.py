"""Which layers of a functional model take what others give out."""

from collections.abc import Iterator
from typing import Any

import keras


def calls_of(model: keras.Model) -> Iterator[tuple[keras.Layer, list[str]]]:
    """The calls of layers in a functional model: the layer, and the names of those that it takes tensors of.

    A layer that is called several times comes several times, unless the config of the model does not tell: then
    only the first call of each layer is known.
    """
    layers = {layer.name: layer for layer in model.layers}
    try:
        configs = model.get_config().get("layers")  # None of a subclass with a config of its own.
    except Exception:  # Of a layer that cannot be saved, which may raise anything.
        configs = None
    if configs is None:
        yield from _first_calls(model)
        return
    for config in configs:
        if config["name"] in layers:
            for call in config["inbound_nodes"]:
                yield layers[config["name"]], list(_sources(call))


def _first_calls(model):
    def tensors(layer, side):
        try:
            return [id(tensor) for tensor in keras.tree.flatten(getattr(layer, side))]
        except AttributeError:
            return []

    makers = {tensor: layer.name for layer in model.layers for tensor in tensors(layer, "output")}
    for layer in model.layers:
        yield layer, [makers[tensor] for tensor in tensors(layer, "input") if tensor in makers]


def _sources(node: Any) -> Iterator[str]:
    """Names of the layers that a serialized call takes tensors of."""
    if isinstance(node, dict) and "keras_history" in node:
        yield node["keras_history"][0]
    elif isinstance(node, dict):
        for entry in node.values():
            yield from _sources(entry)
    elif isinstance(node, (list, tuple)):
        for entry in node:
            yield from _sources(entry)
