"""Quantization between learned ends as a layer, and as a wrapper of what it feeds."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers.quantization._learned_clip_quantize import learned_clip_quantize
from keras_regularize.layers.quantization._rounding import (
    fitted_range,
    is_calibrating,
    require_one_input,
    require_one_tensor,
    step_dtype,
)
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class LearnedClipQuantizer(Configured, keras.layers.Layer):
    r"""Quantizes activations to $2^b$ equal steps between two learned ends.

    $$y = \Delta \operatorname{round}\!\Big(\frac{\operatorname{clip}(x, l, u) - l}{\Delta}\Big) + l, \qquad
    \Delta = \frac{u - l}{2^b - 1},$$

    as in `learned_clip_quantize`, in training and in inference alike. With few bits one channel of outliers
    widens the range for all; the paper trains with `keras_regularize.regularizers` on the kurtosis of what the
    layer gives out, so that no such channel appears. `kr.layers.calibrate_quantizers(model, x)` sets the ends
    from data.

    Args:
        bits: $b$, at least 1.
        lower: Initial lower end $l$.
        upper: Initial upper end $u > l$.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: a floating tensor, any shape; the same shape and dtype.

    Raises:
        ValueError: If `bits` is out of range or the ends are not in order.

    Cost: about ten elementwise passes.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    layer = kr.layers.LearnedClipQuantizer(bits=2, lower=-1.0, upper=2.0)
    layer(np.array([[-3.0, 0.2, 9.0]]))  # [[-1, 0, 2]]
    ```

    Reference: Nrusimha, Mishra, Wang, Alistarh, Panda and Kim, *Mitigating the Impact of Outlier Channels for
    Language Model Quantization with Activation Regularization*, 2024, arXiv:2404.03605.
    """

    def __init__(self, bits: int = 4, lower: float = -4.0, upper: float = 4.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.bits = check_integer("bits", bits, minimum=1)
        self.initial_lower = check_number("lower", lower)
        self.initial_upper = check_number("upper", upper, above=self.initial_lower)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.lower = self._end("lower", self.initial_lower)
        self.upper = self._end("upper", self.initial_upper)

    def _end(self, name, value):
        constant = keras.initializers.Constant(value)
        return self.add_weight((), constant, step_dtype(self), autocast=False, name=name)

    def call(self, inputs: Any) -> Any:
        if is_calibrating():
            x = ops.convert_to_numpy(upcast(inputs))
            scale, offset, low = fitted_range(x, self.bits, symmetric=False)
            start = (offset + scale * low).reshape(())
            self.lower.assign(start)
            self.upper.assign(start + (2**self.bits - 1) * scale.reshape(()))
        return learned_clip_quantize(inputs, self.lower.value, self.upper.value, self.bits)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@export
class QuantizedInputs(Configured, keras.layers.Wrapper):
    r"""Quantizes what a layer is fed, between two learned ends.

    The wrapped layer is called on `y = learned_clip_quantize(x, lower, upper, bits)`, see
    `LearnedClipQuantizer`. Around `QuantizedWeights` both factors of the product are quantized; an
    `activity_regularizer` of the wrapped layer acts on its outputs as without the wrapper.

    Args:
        layer: The layer to wrap; it takes one floating tensor.
        bits: Number of bits, at least 1.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: those of the wrapped layer. The ends start at ±4; `kr.layers.calibrate_quantizers(model,
    x)` sets them from data.

    Raises:
        ValueError: If `bits` is out of range, or `layer` is not a Keras layer of one floating tensor (attention
            takes several, an embedding takes ids).

    Cost: that of the wrapped layer and about ten elementwise passes over its inputs.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    dense = kr.layers.QuantizedWeights(keras.layers.Dense(3), bits=4)
    kr.layers.QuantizedInputs(dense, bits=4)(np.ones((2, 5)))
    ```

    Reference: Nrusimha, Mishra, Wang, Alistarh, Panda and Kim, *Mitigating the Impact of Outlier Channels for
    Language Model Quantization with Activation Regularization*, 2024, arXiv:2404.03605.
    """

    def __init__(self, layer: keras.layers.Layer, bits: int = 4, **kwargs: Any):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                f"`QuantizedInputs` wraps a Keras layer. Received: layer={layer!r} of type "
                f"{type(layer).__name__}"
            )
        require_one_input(self, layer)
        # Inputs and outputs have the dtypes of the wrapped layer.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.autocast = False
        self.bits = check_integer("bits", bits, minimum=1)
        self.quantizer = LearnedClipQuantizer(self.bits, dtype=layer.dtype_policy)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: Any) -> None:
        if input_shape and not all(n is None or isinstance(n, int) for n in input_shape):
            require_one_tensor(self, input_shape)
        self.quantizer.build(input_shape)
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        options = {"training": training} if _takes(self.layer, "training") else {}
        if _takes(self.layer, "mask"):
            options["mask"] = mask
        return self.layer(self.quantizer(inputs), **options)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return self.layer.compute_output_spec(inputs)


def _takes(layer, name):
    return name in inspect.signature(layer.call).parameters
