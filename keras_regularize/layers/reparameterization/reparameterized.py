"""The one wrapper for weights that are a function of the stored weights."""

import functools
import inspect
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.registration import export


@export
class Reparameterized(Configured, keras.layers.Wrapper):
    r"""Runs a layer with a function of its weights in place of the weights themselves.

    The base of `kr.layers.WeightCompander` and its like. The wrapped layer keeps its variables $v$, on
    which the optimizer, the initializers, the constraints and the weight regularizers act, and computes with

    $$w = f(v),$$

    where $f$ is `effective(name, value)`, differentiated through. Nothing is assigned in the forward pass.
    The wrapped layer's activity losses and its state (batch statistics, random seeds) work as without the
    wrapper; its masks, `training` and further inputs go through, and the wrapper has its call signature. The
    base class changes no weight and equals the bare layer.

    Override `effective`; create further weights in `build(*args, **kwargs)` after `super().build`.

    Args:
        layer: The layer to wrap, built or not: dense, convolutional, embedding, attention, recurrent, or
            your own. It must create its weights in `build` (Keras layers do).
        **kwargs: `name` and other arguments of `keras.layers.Layer`. Weights and outputs have the dtypes of
            the wrapped layer.

    Inputs and outputs: those of the wrapped layer.

    Raises:
        ValueError: If `layer` is not a Keras layer.

    Cost: that of `effective`; the wrapped layer runs once.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np


    class NonNegative(kr.layers.Reparameterized):
        "Keeps the kernel positive by a softplus."

        def effective(self, name, value):
            return keras.ops.softplus(value) if name == "kernel" else value


    layer = NonNegative(keras.layers.Dense(3))
    layer(np.ones((2, 4), "float32"))
    plain = layer.fold()  # a Dense layer with the positive kernel
    ```

    Reference: None; the mechanism is this package's own; see the subclasses for methods.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                f"`{type(self).__name__}` wraps a Keras layer. Received: layer={layer!r} "
                f"of type {type(layer).__name__}"
            )
        # Keras reads the names of the inputs (and of their masks and shapes) off these signatures.
        run = self.call

        @functools.wraps(layer.call)
        def call(*args, **kwargs):
            return run(*args, **kwargs)

        self.__dict__["call"] = call
        # In the dtype of the variables, so that the effective weights are computed in full precision; the
        # wrapped layer casts inputs and weights to its own compute dtype.
        kwargs.setdefault("dtype", layer.variable_dtype)
        super().__init__(layer, **kwargs)
        self.autocast = False
        self.supports_masking = layer.supports_masking
        make = self.build

        @functools.wraps(make)
        def build(*args, **kwargs):
            with backend.eager():
                make(*args, **kwargs)

        vars(build)["__signature__"] = inspect.signature(layer.build)
        self.__dict__["build"] = build

    def effective(self, name: str, value: Any) -> Any:
        """The weight to compute with in place of the stored one; the same `value` to leave it.

        Args:
            name: Name of the variable: `"kernel"`, `"bias"`, `"recurrent_kernel"`, `"depthwise_kernel"`,
                `"embeddings"`, … A layer that contains layers (attention) has several of one name.
            value: Its stored value, a tensor. The result has its shape and dtype.
        """
        return value

    def _effective_of(self, variable, value):
        """`effective`, for the methods that hold something of their own for each variable."""
        return self.effective(variable.name, value)

    def build(self, *args: Any, **kwargs: Any) -> None:
        if not self.layer.built:
            self.layer.build(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        variables = self.layer.variables
        values = self._effective_values(variables)
        with keras.StatelessScope(list(zip(variables, values)), collect_losses=True) as scope:
            outer = scope.original_scope
            scope.collect_losses = outer is None or outer.collect_losses
            before = [scope.get_current_value(variable) for variable in variables]
            outputs = self.layer(*args, **kwargs)
        for variable, value in zip(variables, before):
            updated = scope.get_current_value(variable)
            if updated is not value:
                variable.assign(updated)
        for loss in scope.losses:
            if outer is None:
                self.add_loss(loss)
            else:  # The layer that made the loss already claims it: `add_loss` would count it twice.
                outer.add_loss(loss)
        return outputs

    def fold(self) -> keras.layers.Layer:
        """A plain layer of the wrapped class with the effective weights: the same outputs, no wrapper.

        `keras.models.clone_model(model, clone_function=…)` with a function that folds the wrappers and makes
        the other layers from their config folds a whole model; set the weights of the latter after it. Keras
        exports a model to ONNX only once it was called on data.

        Returns:
            A new, built layer of the same configuration. The regularizers in it would act on the effective
            weights.

        Raises:
            ValueError: If the wrapper is not built.
        """
        if not self.built:
            raise ValueError(
                f"`fold` needs a built layer, whose weights exist. Received: {self.name!r}, which is not "
                "built; call it on data first."
            )
        layer = type(self.layer).from_config(self.layer.get_config())
        if not layer.built:
            layer.build_from_config(self.layer.get_build_config())
        values = self._effective_values(self.layer.variables)
        for variable, value in zip(layer.variables, values):
            variable.assign(ops.copy(value))  # JAX frees arrays that one of two owners trains.
        return layer

    def _effective_values(self, variables):
        weights = {id(weight) for weight in self.layer.weights}
        return [
            self._effective_of(variable, variable.value)
            if id(variable) in weights
            else variable.value
            for variable in variables
        ]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(*args, **kwargs)

    def get_build_config(self) -> dict[str, Any] | None:
        return self.layer.get_build_config()

    def build_from_config(self, config: dict[str, Any]) -> None:
        if not self.layer.built:
            self.layer.build_from_config(config)
        self.build()


def is_kernel(name: str) -> bool:
    """Whether a variable of this name is a kernel, as opposed to a bias, a scale or a statistic."""
    return name.endswith("kernel") or name == "embeddings"


def require_kernel(wrapper: Reparameterized) -> None:
    """Raises unless the built layer that is wrapped has a kernel to reparameterize."""
    names = [weight.name for weight in wrapper.layer.weights]
    if not any(is_kernel(name) for name in names):
        raise ValueError(
            f"`{type(wrapper).__name__}` needs a layer with a kernel. Received: layer="
            f"{wrapper.layer!r}, whose weights are called {names}"
        )
