"""Fake quantization of activations as a layer."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers.quantization._rounding import (
    first_level,
    fitted_range,
    is_calibrating,
    learned_step,
    step_dtype,
)
from keras_regularize.numerics import maximum, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer

_DEFAULT_RANGE = 4.0  # Of either sign, until the layer is calibrated.


@export
class FakeQuantize(Configured, keras.layers.Layer):
    r"""Quantizes activations to $2^b$ levels with a learned step, so that a network learns to live with them.

    $$y = s' \operatorname{round}\!\Big(\operatorname{clip}\!\Big(\frac{x - z}{s'}, \ell, h\Big)\Big) + z, \qquad
    s' = |s| + 10^{-6}$$

    as in `fake_quantize`, with gradients to $s$ and $z$ multiplied by $1/\sqrt{h n}$, $n$ the number of
    entries of the tensor. It acts in training and in inference alike. Put it before a layer whose weights are
    quantized (`QuantizedWeights`); the first and the last layer of a network are usually given 8 bits.

    Call `kr.layers.calibrate_quantizers(model, x)` before training: it sets steps and offsets to what a batch
    looks like, and drops the negative levels where nothing is negative. Until then the range is ±4.

    Args:
        bits: $b$, 2 to 16.
        symmetric: Whether $z$ is fixed at 0, else it is learnt.
        per_channel: Whether each channel (last axis) has its own step and offset.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: a floating tensor, any shape; the same shape and dtype.

    Raises:
        ValueError: If `bits` is out of range.

    Cost: about ten elementwise passes.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([
        keras.Input((8,)),
        kr.layers.QuantizedWeights(keras.layers.Dense(16, activation="relu"), bits=4),
        kr.layers.FakeQuantize(bits=4),
        kr.layers.QuantizedWeights(keras.layers.Dense(2), bits=8),
    ])
    kr.layers.calibrate_quantizers(model, np.random.default_rng(0).normal(size=(32, 8)))
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650; Esser, McKinstry, Bablani, Appuswamy and Modha, *Learned Step Size Quantization*, ICLR 2020,
    arXiv:1902.08153.
    """

    def __init__(
        self,
        bits: int = 8,
        symmetric: bool = True,
        per_channel: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.bits = check_bits(bits)
        self.symmetric = bool(symmetric)
        self.per_channel = bool(per_channel)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1],) if self.per_channel else ()
        first = first_level(self.bits)
        step = _DEFAULT_RANGE / (first + 2**self.bits - 1)
        self.scale = self._weight("scale", shape, step, trainable=True)
        self.offset = self._weight("offset", shape, 0.0, trainable=not self.symmetric)
        self.low = self._weight("low", (), first, trainable=False)

    def _weight(self, name, shape, value, trainable):
        constant = keras.initializers.Constant(value)
        return self.add_weight(
            shape, constant, step_dtype(self), trainable=trainable, autocast=False, name=name
        )

    def call(self, inputs: Any) -> Any:
        if is_calibrating():
            self._fit(inputs)
        low = self.low.value
        high = low + float(2**self.bits - 1)
        size = ops.cast(ops.prod(ops.convert_to_tensor(ops.shape(inputs), "int32")), low.dtype)
        gradient_scale = ops.rsqrt(high * maximum(size, 1.0))
        return learned_step(inputs, self.scale.value, self.offset.value, low, high, gradient_scale)

    def _fit(self, inputs):
        axis = (-1,) if self.per_channel else None
        x = ops.convert_to_numpy(upcast(inputs))
        scale, offset, low = fitted_range(x, self.bits, self.symmetric, axis)
        self.scale.assign(scale.reshape(self.scale.shape))
        self.offset.assign(offset.reshape(self.offset.shape))
        self.low.assign(low)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def check_bits(bits):
    """`bits`, which must be an integer of 2 to 16: beyond, levels are finer than float32 rounds."""
    return check_integer("bits", bits, minimum=2, maximum=16)
