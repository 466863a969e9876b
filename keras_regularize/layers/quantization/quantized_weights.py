"""Fake quantization of another layer's kernels."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.layers.quantization._rounding import (
    first_level,
    fitted_range,
    is_calibrating,
    learned_step,
    step_dtype,
)
from keras_regularize.layers.quantization.fake_quantize import check_bits
from keras_regularize.layers.reparameterization.kernels import index_of, kernels_of, output_axes
from keras_regularize.layers.reparameterization.reparameterized import (
    Reparameterized,
    require_kernel,
)
from keras_regularize.numerics import upcast
from keras_regularize.registration import export


@export
class QuantizedWeights(Reparameterized):
    r"""Computes with a kernel rounded to $2^b$ levels and trains the float kernel and the step through it.

    $$\hat w = s' \operatorname{round}\!\Big(\operatorname{clip}\!\Big(\frac{w - z}{s'}, \ell, h\Big)\Big) + z,
    \qquad s' = |s| + 10^{-6}, \quad \ell = -2^{b-1}, \quad h = 2^{b-1} - 1,$$

    as in `fake_quantize`. The gradients to $s$ and $z$ are multiplied by $1/\sqrt{h n}$, $n$ the size of the
    kernel, and by $2/\sqrt{h n / c}$ if every output unit has its own step, $c$ the number of input channels.
    Optimizer, weight decay and initializer act on the float kernel; biases stay float. `fold()` gives a plain
    layer with the rounded kernel.

    Steps start where the error $|w - \hat w|^{2.4}$ of the initial kernel is least, over 80 ranges from the
    full one down to a fifth. After loading pretrained weights into the wrapped layer, call
    `kr.layers.calibrate_quantizers(model, x)`, which fits them again.

    Args:
        layer: The layer to wrap; all its kernels are quantized (also recurrent, depthwise and embeddings).
        bits: $b$, 2 to 16.
        symmetric: Whether $z$ is fixed at 0, else it is learnt.
        per_channel: Whether each output unit has its own step and offset, or one is for the whole kernel.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: those of the wrapped layer. Weights beside those of the layer: `…_scale` and, trained
    only if not symmetric, `…_offset` of every kernel.

    Raises:
        ValueError: If `bits` is out of range, or the layer has no kernel.

    Cost: about ten elementwise passes over the kernel; 80 once, when it is built.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    layer = kr.layers.QuantizedWeights(keras.layers.Conv2D(4, 3), bits=3)
    layer(np.ones((1, 8, 8, 2)))
    plain = layer.fold()  # a Conv2D whose filters have at most eight values each
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650; Esser, McKinstry, Bablani, Appuswamy and Modha, *Learned Step Size Quantization*, ICLR 2020,
    arXiv:1902.08153. The code of EQ-Net searches five ranges only for symmetric steps per unit; here 80 always.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        bits: int = 8,
        symmetric: bool = True,
        per_channel: bool = True,
        **kwargs: Any,
    ):
        super().__init__(layer, **kwargs)
        self.bits = check_bits(bits)
        self.symmetric = bool(symmetric)
        self.per_channel = bool(per_channel)

    def build(self, *args: Any, **kwargs: Any) -> None:
        super().build(*args, **kwargs)
        require_kernel(self)
        self._axes = [axes if self.per_channel else () for axes in output_axes(self.layer)]
        self._steps = []
        for kernel, kept in zip(kernels_of(self.layer), self._axes):
            shape = [n if axis in kept else 1 for axis, n in enumerate(kernel.shape)]
            pair = [
                self.add_weight(
                    shape,
                    self._fitted(kernel, kept, part),
                    step_dtype(self),
                    trainable=part == 0 or not self.symmetric,
                    name=f"{kernel.name}_{name}",
                )
                for part, name in enumerate(("scale", "offset"))
            ]
            self._steps.append(pair)

    def _fitted(self, kernel, kept, part):
        """Initializer: looks at the kernel when the variable is made, which may be later."""

        def initializer(shape, dtype=None):
            if not backend.readable(kernel.value):  # Traced at first, made later.
                return ops.ones(shape, dtype)
            return ops.convert_to_tensor(self._fit(kernel, kept)[part], dtype=dtype)

        return initializer

    def _fit(self, kernel, kept):
        value = ops.convert_to_numpy(upcast(kernel.value))
        # Signed in any case: a kernel that is positive at first need not stay so.
        return fitted_range(value, self.bits, self.symmetric, kept, signed=True)[:2]

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if is_calibrating():
            for kernel, kept, pair in zip(kernels_of(self.layer), self._axes, self._steps):
                for variable, value in zip(pair, self._fit(kernel, kept)):
                    variable.assign(value)
        return super().call(*args, **kwargs)

    def _effective_of(self, variable, value):
        position = index_of(variable, kernels_of(self.layer))
        if position is None:
            return value
        scale, offset = self._steps[position]
        low = first_level(self.bits)
        high = low + 2**self.bits - 1
        gradient_scale = step_gradient_scale(high, variable.shape, self._axes[position])
        return learned_step(value, scale.value, offset.value, low, high, gradient_scale)


def step_gradient_scale(high, shape, axes):
    """The papers' factor on the gradient of the step of a kernel, `axes` those with steps of their own."""
    size = math.prod(shape)
    if not axes:
        return 1.0 / math.sqrt(high * size)
    channels = [n for axis, n in enumerate(shape) if axis not in axes][-1]
    return 2.0 / math.sqrt(high * size / channels)
