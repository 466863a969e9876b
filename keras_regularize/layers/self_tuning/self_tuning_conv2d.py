"""A convolution that responds to hyperparameters."""

from typing import Any

import keras
from keras import ops

from keras_regularize.layers.self_tuning.response import Responding
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer


@export
class SelfTuningConv2D(Responding):
    r"""A convolution whose filters follow the hyperparameters that it is trained with.

    $$y = K * x + b + (C h) \odot (K' * x) + (C' h) \odot b'$$

    with a scale for each filter, the same everywhere in the image: `kr.layers.SelfTuningDense` for images. Kernels
    and biases start uniform within $\pm 1 / \sqrt{\text{inputs of a filter}}$.

    Args:
        filters: Filters, at least 1.
        kernel_size: Side of the filters, an integer or a pair.
        strides: As for `keras.layers.Conv2D`.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`; default that of the Keras configuration.
        dilation_rate: As for `keras.layers.Conv2D`.
        activation: As for `keras.layers.Conv2D`.
        use_bias: Whether there are biases.
        hyper_initializer: Initializer of the hyper kernel, `None` for a normal one of scale 0.01. `"zeros"` for
            the Delta-STN.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, hyperparameters]` of shapes `(batch, height, width, channels)` and
    `(batch, hyperparameters)`, the latter unconstrained. Output: as of `keras.layers.Conv2D`.

    Raises:
        ValueError: If an argument is out of range, or inputs have other shapes.

    Cost: two convolutions, in weights and operations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, h = keras.Input((8, 8, 3)), keras.Input((2,))
    model = keras.Model([x, h], kr.layers.SelfTuningConv2D(4, 3, padding="same")([x, h]))
    model([np.ones((2, 8, 8, 3)), np.zeros((2, 2))])  # (2, 8, 8, 4)
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """

    _ranks = range(4, 5)

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        hyper_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(hyper_initializer, **kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        self.filters = check_integer("filters", filters, minimum=1)
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.strides = _pair("strides", strides)
        self.padding = check_choice("padding", padding, ("valid", "same"))
        self.dilation_rate = _pair("dilation_rate", dilation_rate)
        self.data_format = check_choice(
            "data_format",
            data_format or keras.config.image_data_format(),
            ("channels_last", "channels_first"),
        )
        first = self.data_format == "channels_first"
        axes = "channels, height, width" if first else "height, width, channels"
        self._layout = f"features (batch, {axes}) with a known number of channels"

    def _channels_axis(self):
        return 1 if self.data_format == "channels_first" else -1

    def _kernel_shape(self, features):
        return (*self.kernel_size, features[self._channels_axis()], self.filters)

    def _linear(self, features, kernel):
        return ops.conv(
            features, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        features, _ = self._checked(input_shape)
        plain = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )
        return plain.compute_output_shape(features)


def _pair(name, value):
    value = value if isinstance(value, (list, tuple)) else (value, value)
    if len(value) != 2:
        raise ValueError(
            f"`{name}` must be an integer or a pair of them. Received: {name}={value!r}"
        )
    return tuple(check_integer(name, entry, minimum=1) for entry in value)
