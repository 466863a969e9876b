"""A layer whose kernels and inputs are quantized to a number of bits that is chosen later."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend, straight_through
from keras_regularize.layers.quantization._rounding import (
    first_level,
    fitted_range,
    is_calibrating,
    learned_step,
    require_one_input,
    require_one_tensor,
    step_dtype,
)
from keras_regularize.layers.quantization.fake_quantize import check_bits
from keras_regularize.layers.quantization.quantized_weights import step_gradient_scale
from keras_regularize.layers.reparameterization.kernels import index_of, kernels_of, output_axes
from keras_regularize.layers.reparameterization.reparameterized import (
    Reparameterized,
    require_kernel,
)
from keras_regularize.numerics import maximum, upcast
from keras_regularize.registration import export

_DEFAULT_RANGE = 4.0  # Of inputs, of either sign, until the layer is calibrated.


@export
class ElasticQuantized(Reparameterized):
    r"""Quantizes the kernels and the inputs of a layer to any of several bit widths, by a choice it is given.

    As `QuantizedWeights` and `FakeQuantize` together, with a step and an offset of their own for every bit
    width, symmetric or not, for the whole kernel or per output unit. Which of them act is held in `choice`
    and may differ from call to call without a new trace: `kr.models.ElasticQuantization` trains one network
    for all choices. `select` sets it by hand.

    Args:
        layer: The layer to wrap; it takes one floating tensor. All its kernels are quantized.
        bits: The bit widths to choose from, 2 to 16, in ascending order.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Attributes:
        choice: Integer variable of five: the positions in `bits` of the bits of weights and of inputs; whether
            weights have an offset; whether output units have steps of their own; whether inputs have an
            offset. At first the most bits, symmetric, per output unit.

    Inputs and outputs: those of the wrapped layer. `kr.layers.calibrate_quantizers(model, x)` sets the ranges
    of inputs from data; until then they are ±4.

    Raises:
        ValueError: If `bits` is out of range or not ascending, or the layer has no kernel or takes other than one
            floating tensor.

    Cost: about twenty elementwise passes over kernels and inputs in every call; when built, 320 over the
    kernels for each bit width, in NumPy.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    layer = kr.layers.ElasticQuantized(keras.layers.Dense(3), bits=(2, 4, 8))
    layer(np.ones((2, 5)))
    layer.select(weight_bits=2, input_bits=4)
    layer(np.ones((2, 5)))
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650.
    """

    def __init__(
        self, layer: keras.layers.Layer, bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8), **kwargs: Any
    ):
        super().__init__(layer, **kwargs)
        require_one_input(self, layer)
        self.bits = check_bit_widths(bits)

    def build(self, *args: Any, **kwargs: Any) -> None:
        super().build(*args, **kwargs)
        require_kernel(self)
        count = len(self.bits)
        self._lows = np.array([first_level(b) for b in self.bits], step_dtype(self))
        self._spans = np.array([2**b - 1 for b in self.bits], step_dtype(self))
        self._axes = [(axes, ()) for axes in output_axes(self.layer)]
        self._steps = [
            [self._kernel_steps(kernel, kept, n) for kept, n in zip(axes, ("unit", "kernel"))]
            for kernel, axes in zip(kernels_of(self.layer), self._axes)
        ]
        widest = np.repeat(_DEFAULT_RANGE / (self._lows + self._spans), 2).reshape((count, 2))
        self.input_scale = self._weight("input_scale", (count, 2), lambda: widest)
        self.input_offset = self._weight("input_offset", (count,), lambda: np.zeros(count))
        self.input_signed = self._weight("input_signed", (), lambda: 1.0, trainable=False)
        self.choice = self._weight(
            "choice", (5,), lambda: [count - 1, count - 1, 0, 1, 0], "int32", trainable=False
        )

    def _weight(self, name, shape, value, dtype=None, **options):
        dtype = dtype or step_dtype(self)

        def initializer(shape, dtype=None):
            return ops.reshape(ops.convert_to_tensor(np.asarray(value()), dtype=dtype), shape)

        return self.add_weight(shape, initializer, dtype, autocast=False, name=name, **options)

    def _kernel_steps(self, kernel, kept, name):
        count = len(self.bits)
        shape = [n if axis in kept else 1 for axis, n in enumerate(kernel.shape)]
        prefix = f"{kernel.name}_{name}"
        return [
            self._weight(f"{prefix}_scale", (count, 2, *shape), lambda: self._fit(kernel, kept)[0]),
            # Only kernels with an offset have one to learn.
            self._weight(f"{prefix}_offset", (count, *shape), lambda: self._fit(kernel, kept)[1]),
        ]

    def _fit(self, kernel, kept):
        if not backend.readable(kernel.value):  # Traced at first, made later.
            shape = [n if axis in kept else 1 for axis, n in enumerate(kernel.shape)]
            return np.ones((len(self.bits), 2, *shape)), np.zeros((len(self.bits), *shape))
        value = ops.convert_to_numpy(upcast(kernel.value))
        return self._fit_array(value, kept, signed=True)[:2]

    def _fit_array(self, x, kept, signed=None):
        """Scales `(bits, symmetric or not, …)`, offsets `(bits, …)`, and whether levels are signed."""
        fits = [[fitted_range(x, b, s, kept, signed) for s in (True, False)] for b in self.bits]
        scale = np.array([[fit[0] for fit in pair] for pair in fits])
        return scale, np.array([pair[1][1] for pair in fits]), fits[0][0][2] < 0

    def select(
        self,
        weight_bits: int,
        input_bits: int,
        symmetric: bool = True,
        per_channel: bool = True,
        symmetric_inputs: bool = True,
    ) -> None:
        """Chooses what acts from now on.

        Args:
            weight_bits: Bits of the kernels, one of `bits`.
            input_bits: Bits of the inputs, one of `bits`.
            symmetric: Whether kernels have no offset.
            per_channel: Whether output units have steps of their own.
            symmetric_inputs: Whether inputs have no offset.

        Raises:
            ValueError: If a number of bits is not one of `bits`, or the layer is not built.
        """
        for name, value in (("weight_bits", weight_bits), ("input_bits", input_bits)):
            if value not in self.bits:
                raise ValueError(f"`{name}` must be one of {self.bits}. Received: {name}={value!r}")
        if not self.built:
            raise ValueError(f"`select` needs a built layer. Received: {self.name!r}")
        positions = [self.bits.index(value) for value in (weight_bits, input_bits)]
        flags = [int(flag) for flag in (not symmetric, per_channel, not symmetric_inputs)]
        self.choice.assign(np.array([*positions, *flags], "int32"))

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        require_one_tensor(self, inputs)
        if is_calibrating():
            self._calibrate(inputs)
        return super().call(self._quantized(inputs), *args, **kwargs)

    def _calibrate(self, inputs):
        for kernel, axes, steps in zip(kernels_of(self.layer), self._axes, self._steps):
            for kept, pair in zip(axes, steps):
                for variable, value in zip(pair, self._fit(kernel, kept)):
                    variable.assign(np.reshape(value, variable.shape))
        x = ops.convert_to_numpy(upcast(inputs))
        scale, offset, signed = self._fit_array(x, None)
        self.input_scale.assign(np.reshape(scale, self.input_scale.shape))
        self.input_offset.assign(np.reshape(offset, self.input_offset.shape))
        self.input_signed.assign(float(signed))

    def _levels(self, position):
        low, span = (
            ops.take(ops.convert_to_tensor(a), position, axis=0) for a in (self._lows, self._spans)
        )
        return low, span

    def _quantized(self, inputs):
        inputs = ops.convert_to_tensor(inputs, dtype=self.layer.compute_dtype)
        choice = self.choice.value
        position, with_offset = choice[1], choice[4]
        scale = ops.take(ops.take(self.input_scale.value, position, axis=0), with_offset, axis=0)
        moved = ops.cast(with_offset, step_dtype(self))
        offset = ops.take(self.input_offset.value, position, axis=0) * moved
        low, span = self._levels(position)
        low = low * maximum(moved, self.input_signed.value)
        size = ops.cast(ops.prod(ops.convert_to_tensor(ops.shape(inputs), "int32")), low.dtype)
        gradient_scale = ops.rsqrt((low + span) * maximum(size, 1.0))
        return learned_step(inputs, scale, offset, low, low + span, gradient_scale)

    def _effective_of(self, variable, value):
        position = index_of(variable, kernels_of(self.layer))
        if position is None:
            return value
        choice = self.choice.value
        low, span = self._levels(choice[0])
        per_unit, moved = (ops.cast(choice[i], step_dtype(self)) for i in (3, 2))
        steps = zip(self._steps[position], self._axes[position], (per_unit, 1.0 - per_unit))
        scale = offset = 0.0
        for (scales, offsets), kept, acts in steps:
            # Scaled here, since the factor differs between the two granularities.
            factor = step_gradient_scale(1.0, variable.shape, kept) * ops.rsqrt(low + span)
            chosen = ops.take(ops.take(scales.value, choice[0], axis=0), choice[2], axis=0)
            scale = scale + acts * _with_gradient(chosen, factor)
            chosen = ops.take(offsets.value, choice[0], axis=0)
            offset = offset + acts * moved * _with_gradient(chosen, factor)
        return learned_step(value, scale, offset, low, low + span, 1.0)


def _with_gradient(x, factor):
    return straight_through(x, factor * x)


def check_bit_widths(bits):
    """`bits` as a list, which must be an ascending sequence of bit widths."""
    values = list(bits) if isinstance(bits, (list, tuple, range)) else None
    if not values or values != sorted(set(values)):
        raise ValueError(f"`bits` must be bit widths in ascending order. Received: bits={bits!r}")
    return [check_bits(value) for value in values]
