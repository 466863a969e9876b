"""Adaptive gradient clipping: no unit changes by more than a part of its weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_regularize.numerics import maximum, upcast
from keras_regularize.optimizers.wrapper import OptimizerWrapper, global_gradients
from keras_regularize.registration import export
from keras_regularize.utils.groups import check_axis, group_norms
from keras_regularize.utils.variables import all_owners, check_where, chooser, everything
from keras_regularize.validation import check_number

_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


def unit_axes(model: keras.Model) -> dict[str, list[int]]:
    """Which axes of each weight of a model index its units, by the layers that the weights belong to.

    A unit is what one output number is computed by: a column of a dense kernel, a filter of a convolution
    `(…, in, out)` (of a transposed one `(…, out, in)`), one spatial kernel of a depthwise one, an embedding, for
    `EinsumDense` and attention what the equation says. Biases and scales are one unit each.

    Args:
        model: A built Keras model.

    Returns:
        A dictionary from the path of a trainable variable to a list of axes, the `axes` of
        `kr.optimizers.AdaptiveGradientClipping`.

    Raises:
        ValueError: If the model is not built.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((8, 3)), keras.layers.Conv1DTranspose(4, 2, name="up")])
    kr.optimizers.unit_axes(model)  # {"sequential/up/kernel": [-2], "sequential/up/bias": []}
    ```

    Reference: Andrew Brock, Soham De, Samuel L. Smith and Karen Simonyan, *High-Performance Large-Scale Image
    Recognition Without Normalization*, ICML 2021, arXiv:2102.06171.
    """
    if not model.built:
        raise ValueError(
            f"`unit_axes` needs a built model, whose weights exist. Received: {model.name!r}, which is not built."
        )
    owners = all_owners(model)
    return {v.path: _axes_in(owners.get(id(v)), v) for v in model.trainable_variables}


def _axes_in(layer, variable):
    """Axes of the units of a variable that belongs to that layer."""
    if isinstance(layer, layers.EinsumDense) and variable.name == "kernel":
        before, output = layer.equation.replace(" ", "").split("->")
        kernel = before.split(",")[1]
        return [i - len(kernel) for i, letter in enumerate(kernel) if letter in output]
    if isinstance(layer, _DEPTHWISE) and variable.name == "kernel":
        return [-2, -1]
    if isinstance(layer, _TRANSPOSED) and variable.name == "kernel":
        return [-2]
    return _axes_by_name(variable, path="")


def _axes_by_name(variable, path=None):
    """The same by the names of a variable and of the layers around it, and its rank."""
    path, rank = variable.path if path is None else path, len(variable.shape)
    if rank <= 1 or variable.name == "bias":
        return []
    if variable.name == "embeddings":
        return [0]
    if variable.name == "depthwise_kernel" or "depthwise_conv" in path:
        return [-2, -1]
    if variable.name == "kernel" and "transpose" in path:
        return [-2]
    if rank == 3 and "attention" in path and path.split("/")[-2] in ("query", "key", "value"):
        return [-2, -1]
    return [-1]


@export
class AdaptiveGradientClipping(OptimizerWrapper):
    r"""Clips the gradient of each unit to a part of the norm of its weights, around any Keras optimizer.

    $$G_i \leftarrow
    G_i \min\!\left(1,\ \lambda\,\frac{\max(\lVert W_i\rVert, \epsilon)}{\lVert G_i\rVert}\right)$$

    with the weights $W_i$ and the gradient $G_i$ of one unit. What a gradient may be depends on the weights that
    it changes, so one $\lambda$ fits all layers; it lets networks without batch normalization train at large
    learning rates and batches. `clipnorm=` of Keras' optimizers bounds the gradient of a variable by a number.

    A unit is what one output number is computed by: a column of a dense kernel, a filter of a convolution, an
    embedding; biases and scales are one unit each. Transposed and depthwise convolutions, and attention, keep
    their kernels in other layouts, which are told by the names that Keras gives such layers. For layers with other
    names, and `EinsumDense`, pass `axes=kr.optimizers.unit_axes(model)`.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        clipping: $\lambda > 0$, or a schedule of it; smaller for larger batches. The paper has 0.01 for 4096
            images, and up to 0.08 for small batches.
        epsilon: $\epsilon > 0$, so that units that start at zero can move.
        where: Which variables are clipped: the name of a variable, a list of names of variables or of layers on
            their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all. The paper leaves
            out the output layer.
        axes: A dictionary from a path or its end, or the name of a layer, to the axes that index units: an
            integer or a list, empty for one unit in all. What it does not name is told by Keras' names.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is none of these, or if the wrapped optimizer accumulates gradients,
            averages weights or is a `LossScaleOptimizer` (wrap the other way round).

    Cost: one pass over gradients and weights for their norms, and one over the gradients.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, name="head")]
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    where = kr.utils.AllBut(["head"])
    model.compile(kr.optimizers.AdaptiveGradientClipping(optimizer, 0.01, where=where), "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    ```

    Reference: Andrew Brock, Soham De, Samuel L. Smith and Karen Simonyan, *High-Performance Large-Scale Image
    Recognition Without Normalization*, ICML 2021, arXiv:2102.06171.
    """

    def __init__(
        self,
        optimizer: Any,
        clipping: Any = 0.01,
        epsilon: float = 1e-3,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        axes: Mapping[str, int | Sequence[int]] | None = None,
        name: str | None = None,
    ):
        clipping = check_number("clipping", clipping, above=0, schedule=True)
        epsilon = check_number("epsilon", epsilon, above=0)
        where = check_where(where)
        if axes is not None:
            if not isinstance(axes, Mapping) or not all(isinstance(key, str) for key in axes):
                raise ValueError(
                    f"`axes` must be a dictionary from names to axes. Received: axes={axes!r}"
                )
            axes = {key: [a] if isinstance(a, int) else list(a) for key, a in axes.items()}
            for value in axes.values():
                check_axis(value)
        super().__init__(optimizer, name=name)
        self.clipping = clipping
        self.epsilon = epsilon
        self.where = where
        self.axes = axes

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        chosen, clipped = chooser(self.where, everything), []
        clipping = self.scheduled(self.clipping)
        for gradient, whole, variable in zip(grads, global_gradients(grads), variables):
            if chosen(variable):
                axes = self._unit_axes(variable) or None
                weights, size = group_norms(variable.value, axes), group_norms(whole, axes)
                most = ops.cast(clipping, weights.dtype) * maximum(weights, self.epsilon)
                above = size > most
                scale = ops.where(above, most / ops.where(above, size, 1.0), 1.0)
                # In float32, where the product of a large gradient of half precision is still a number.
                gradient = ops.cast(
                    upcast(gradient) * ops.cast(scale, upcast(gradient).dtype), gradient.dtype
                )
            clipped.append(gradient)
        super().step(clipped, variables)

    def _unit_axes(self, variable):
        given, parts = self.axes or {}, variable.path.split("/")
        # The path, its ends, and the layers around, the innermost first.
        ends = ["/".join(parts[i:]) for i in range(len(parts))]
        for key in (*ends, *reversed(parts)):
            if key in given:
                return given[key]
        return _axes_by_name(variable)
