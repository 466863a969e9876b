"""The base of optimizers that act around the step of another optimizer."""

import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured, with_arguments


def chain(optimizer: Any) -> Iterator[keras.optimizers.Optimizer]:
    """The optimizer, the one it wraps, and so on to the one that takes the step."""
    while optimizer is not None:
        yield optimizer
        inner = getattr(optimizer, "inner_optimizer", None)  # That of loss scaling.
        optimizer = inner if inner is not None else getattr(optimizer, "optimizer", None)


def is_schedule(value: Any) -> bool:
    return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)


def global_gradients(grads: list[Any]) -> list[Any]:
    """What the wrapped optimizer will step by: the sum over the replicas of `tf.distribute`.

    `step` gets the gradients of one replica, because it is the wrapped optimizer that adds them up. Only
    methods whose step is not linear in the gradient need the sum before.
    """
    replicas = backend.num_replicas()
    if replicas == 1:
        return grads
    return [g * replicas for g in backend.reduce_mean_over_replicas(grads)]


class OptimizerWrapper(Configured, keras.optimizers.Optimizer):
    """Holds an optimizer and acts around its step: the base of optimizer wrappers.

    A method overrides `step(grads, variables)`, whose default is the inner optimizer's step. Everything else is
    here: the learning rate and the iterations are the inner optimizer's, `variables` are those of both,
    gradients are unscaled before `step` sees them, variables without a gradient are left out, and the inner
    optimizer is part of the config. Rows of an embedding come as a dense gradient, in which ids that repeat are
    added up: Adam and its kin of Keras square such rows one by one on TensorFlow, and so differ there from
    themselves on other backends and in a wrapper.

    `step` reads a schedulable argument by `self.scheduled(value)` and the rate of the present step by
    `self.learning_rate`, both before it calls the inner step, which advances the iterations. The inner step
    also applies the variables' constraints; what `step` does afterwards comes after them. The config is read
    from the constructor.

    Args:
        optimizer: The optimizer to wrap, its name or its config.
        name: Name of the optimizer.

    Raises:
        ValueError: If the optimizer scales losses, accumulates gradients or averages weights, which belongs
            around a wrapper.

    Cost: that of the wrapped optimizer.

    Example:

    ```python
    import keras
    import keras_regularize as kr


    class SignedGradients(kr.optimizers.OptimizerWrapper):
        "Lets the inner optimizer see signs only."

        def step(self, grads, variables):
            super().step([keras.ops.sign(g) for g in grads], variables)


    optimizer = SignedGradients(keras.optimizers.SGD(0.01))
    ```
    """

    def __init__(self, optimizer: Any, name: str | None = None):
        optimizer = keras.optimizers.get(optimizer)
        kind = type(self).__name__
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                f"`{kind}` goes inside the loss scaling, not around it: "
                f"`LossScaleOptimizer({kind}(optimizer, …))`. Received: optimizer={optimizer!r}"
            )
        for argument in ("gradient_accumulation_steps", "use_ema"):
            if getattr(optimizer, argument):
                raise ValueError(
                    f"`{kind}` acts at every step of the optimizer it wraps, whose `{argument}` must not "
                    f"be set. Received: {argument}={getattr(optimizer, argument)}"
                )
        super().__init__(
            learning_rate=0.0, loss_scale_factor=optimizer.loss_scale_factor, name=name
        )
        self.optimizer = optimizer
        # The gradients are unscaled here, once, before `step`.
        self.optimizer.loss_scale_factor = None

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        """Updates `variables` (a list as long as `grads`) by unscaled gradients, none of them None."""
        self.optimizer.apply(grads, variables)

    def scheduled(self, value: Any, step: Any = None) -> Any:
        """An argument at a step, by default the present one: the number itself, or the schedule's value."""
        return value(self.iterations if step is None else step) if is_schedule(value) else value

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.optimizer.built:
            self.optimizer.build(variables)
        super().build(variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(
                    "The first call of `apply` needs the variables, or call "
                    "`optimizer.build(trainable_variables)` before."
                )
            variables = list(self._trainable_variables)
        else:
            variables = list(trainable_variables)
            if not self.built:
                with keras.name_scope(self.name):
                    self.build(variables)
        if len(grads) != len(variables):
            raise ValueError(
                "Expected one gradient for each variable. "
                f"Received {len(grads)} gradients and {len(variables)} variables."
            )
        missing = [v.path for g, v in zip(grads, variables) if g is None]
        if len(missing) == len(variables):
            raise ValueError("No gradients provided for any variable.")
        if missing:
            warnings.warn(
                f"Gradients do not exist for variables {missing} when minimizing the loss."
            )
            variables = [v for g, v in zip(grads, variables) if g is not None]
            grads = [g for g in grads if g is not None]
        grads = [backend.dense(g) for g in grads]
        if self.loss_scale_factor is not None:
            grads = [g / self.loss_scale_factor for g in grads]
        self.step(grads, variables)

    @property
    def variables(self) -> list[keras.Variable]:
        return super().variables + self.optimizer.variables

    @property
    def iterations(self) -> Any:
        return self.optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.optimizer.learning_rate = value

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        self.optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def get_config(self) -> dict[str, Any]:
        inner = plain = keras.saving.serialize_keras_object(self.optimizer)
        while "optimizer" in plain["config"]:
            plain = plain["config"]["optimizer"]
        plain["config"]["loss_scale_factor"] = self.loss_scale_factor
        # Nothing of Keras' own: a wrapper's learning rate, clipping and so on are those of the inner optimizer.
        return with_arguments(self, {"optimizer": inner, "name": self.name})
