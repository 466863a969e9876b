"""Several optimizers in one `fit`."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_regularize.autodiff import backend


class Optimizers(keras.optimizers.Optimizer):
    """Optimizers by name, each for variables of its own, as the one that a Keras model carries through `fit`.

    `keras.optimizers.MultiOptimizer` steps all of them at once and scales no losses in them. As there,
    `optimizers` lists them, which callbacks look for. `keras.Model` builds, saves, shards and threads one
    optimizer: this one is all of them. Its `iterations` are the steps of the model. A callback that sets
    `learning_rate` reads that of the first, and scales those of the others alike.

    Args:
        optimizers: Optimizers by name.
        variables: Function that gives the variables of each, by name.
    """

    def __init__(
        self,
        optimizers: Mapping[str, keras.optimizers.Optimizer],
        variables: Callable[[], Mapping[str, list[keras.Variable]]],
    ):
        super().__init__(learning_rate=0.0)
        self.by_name = dict(optimizers)
        self._own = variables

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        return list(self.by_name.values())

    def __getitem__(self, name: str) -> keras.optimizers.Optimizer:
        return self.by_name[name]

    def build(self, variables: Any = None) -> None:
        own = self._own()
        for name, optimizer in self.by_name.items():
            if not optimizer.built:
                optimizer.build(own[name])
        self.built = True

    @property
    def variables(self) -> list[keras.Variable]:
        return [self.iterations, *(v for o in self.optimizers for v in o.variables)]

    @property
    def learning_rate(self) -> Any:
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        first, *others = self.optimizers
        ratios = [float(other.learning_rate) / float(first.learning_rate) for other in others]
        first.learning_rate = value
        for other, ratio in zip(others, ratios):
            other.learning_rate = ratio * value

    def scale(self, name: str) -> Any:
        """By what a loss is multiplied before it is differentiated for one of them."""
        return self.by_name[name].scale_loss(1.0)

    def step(self, name: str, gradients: list[Any]) -> None:
        """One step of one of them, by gradients of the scaled loss."""
        backend.apply_gradients(self.by_name[name], gradients, self._own()[name])

    def finalize_variable_values(self, var_list: Any) -> None:
        own = self._own()
        for name, optimizer in self.by_name.items():
            optimizer.finalize_variable_values(own[name])

    def save_own_variables(self, store: Any) -> None:
        store["0"] = self.iterations.numpy()  # Those of the optimizers are stored with them.

    def load_own_variables(self, store: Any) -> None:
        self.iterations.assign(store["0"])

    def get_config(self) -> dict[str, Any]:
        """The optimizers by name; the model that made it makes it again from its own arguments."""
        return keras.saving.serialize_keras_object(self.by_name)


def scaled_optimizer(optimizer: Any, policy: keras.DTypePolicy) -> keras.optimizers.Optimizer:
    """An optimizer from what Keras takes for one, with loss scaling where Keras would add it."""
    optimizer = keras.optimizers.get(optimizer)
    if policy.name == "mixed_float16" and not isinstance(
        optimizer, keras.optimizers.LossScaleOptimizer
    ):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
