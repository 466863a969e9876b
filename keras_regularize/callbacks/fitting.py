"""What the callbacks read about the `fit` they are in."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_regularize.models import RegularizedModel
from keras_regularize.optimizers import Masked
from keras_regularize.optimizers.wrapper import chain


class Position:
    """Where a training stands, in batches since its epoch 0, also if it started at a later epoch."""

    def __init__(self, callback: keras.callbacks.Callback):
        self.steps = callback.params.get("steps")
        self.epoch = 0
        if self.steps is None:
            raise ValueError(
                f"`{type(callback).__name__}` needs to know how many batches an epoch has. Received a data "
                "set of unknown length: pass `steps_per_epoch` to `fit`, or a data set that has a length."
            )
        self.total: int = self.steps * callback.params["epochs"]

    def at(self, batch: int) -> int:
        return self.epoch * self.steps + batch


def find_optimizer(model: keras.Model, kind: type) -> Any:
    """The first optimizer of that class in the chain of wrapped optimizers, or None."""
    found = (optimizer for optimizer in chain(model.optimizer) if isinstance(optimizer, kind))
    return next(found, None)


def find_masks(callback: keras.callbacks.Callback) -> Masked:
    """The optimizer that keeps masks of the model in training, with its variables."""
    optimizer = find_optimizer(callback.model, Masked)
    if optimizer is None:
        raise ValueError(
            f"`{type(callback).__name__}` needs a model that is compiled with `kr.optimizers.Masked(optimizer)` "
            "or `kr.optimizers.LOBSTER(optimizer)`, which keep pruned weights at zero. Received: "
            f"optimizer={callback.model.optimizer!r}"
        )
    build_optimizer(callback.model)
    return optimizer


def without_wrappers(model: keras.Model) -> keras.Model:
    """The model inside all train-step wrappers."""
    while isinstance(model, RegularizedModel):
        model = model.model
    return model


def all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a model, those of models inside of it too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def build_optimizer(model: keras.Model) -> None:
    """Makes the variables of an optimizer that has not stepped yet."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def check_rate(callback: keras.callbacks.Callback, optimizer: Any) -> None:
    """Raises unless the learning rate can be set."""
    if not isinstance(optimizer.learning_rate, keras.Variable):
        raise ValueError(
            f"`{type(callback).__name__}` sets the learning rate, so the optimizer's must be a number. "
            "Received an optimizer whose learning rate is a schedule."
        )
