"""Which axes of a kernel index the units it feeds."""

import math

import keras
from keras import layers

from keras_regularize.layers.reparameterization.reparameterized import is_kernel
from keras_regularize.utils.variables import all_owners

_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


def kernels_of(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The kernels among the weights of a built layer."""
    return [weight for weight in layer.weights if is_kernel(weight.name)]


def index_of(variable: keras.Variable, variables: list[keras.Variable]) -> int | None:
    """Position of a variable in a list, by identity; None if it is not there.

    What a layer keeps for each kernel stands in lists: TensorFlow cannot save a dictionary with other keys than
    strings.
    """
    return next((i for i, other in enumerate(variables) if other is variable), None)


def output_axes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    """For each of `kernels_of(layer)` the axes that index output units; the others index what feeds a unit.

    The last axis; in depthwise kernels `(…, channels, multiplier)` the last two, in kernels of transposed
    convolutions `(…, out, in)` the last but one, in `EinsumDense` those of the labels in the output.
    """
    owners = all_owners(layer)
    return [_axes(owners[id(kernel)], kernel) for kernel in kernels_of(layer)]


def fan_in(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """Number of weights that feed one output unit."""
    return math.prod(shape) // math.prod(shape[axis] for axis in axes)


def _axes(owner, kernel):
    rank = len(kernel.shape)
    if isinstance(owner, _DEPTHWISE) or kernel.name == "depthwise_kernel":
        return rank - 2, rank - 1
    if isinstance(owner, _TRANSPOSED):
        return (rank - 2,)
    if isinstance(owner, layers.EinsumDense):
        inputs, outputs = owner.equation.replace(" ", "").split("->")
        labels = inputs.split(",")[1]
        return tuple(axis for axis, label in enumerate(labels) if label in outputs)
    return (rank - 1,)
