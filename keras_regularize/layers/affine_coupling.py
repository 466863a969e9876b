"""The step of an invertible network."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class AffineCoupling(Configured, keras.layers.Layer):
    r"""Scales and shifts each half of the features by what the other half says: a map that can be undone.

    $$y_1 = x_1 \odot e^{s(x_2)} + t(x_2), \qquad y_2 = x_2 \odot e^{\hat s(y_1)} + \hat t(y_1),$$

    where $s, t$ and $\hat s, \hat t$ are outputs of two small networks, $s \leftarrow \frac{2 c}{\pi} \arctan s$
    with the clamp $c$. `layer(y, inverse=True)` gives back $x$ at the same cost, whatever the networks are.
    Several in a row make an invertible network: `kr.generative.invertible_chart`.

    Args:
        units: Width of the two hidden layers of each network, at least 1.
        clamp: $c > 0$, the largest $|s|$.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input and output: floats `(…, features)`, of at least two features.

    Raises:
        ValueError: If an argument is out of range, or the number of features is not known or below 2.

    Cost: two networks of three dense layers.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    layer = kr.layers.AffineCoupling()
    x = np.random.normal(size=(4, 3)).astype("float32")
    same = layer(layer(x), inverse=True)
    ```

    Reference: Laurent Dinh, Jascha Sohl-Dickstein and Samy Bengio, *Density Estimation using Real NVP*, ICLR 2017,
    arXiv:1605.08803. Both halves in one step, and the clamp: Lynton Ardizzone, Carsten Lüth, Jakob Kruse, Carsten
    Rother and Ullrich Köthe, *Guided Image Generation with Conditional Invertible Neural Networks*, 2019,
    arXiv:1907.02392.
    """

    def __init__(self, units: int = 64, clamp: float = 1.4, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.clamp = check_number("clamp", clamp, above=0)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        if features is None or features < 2:
            raise ValueError(
                "`AffineCoupling` needs a known number of at least two features. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self._first = features // 2
        sizes = self._first, features - self._first
        # Those of the first half, which see the second, and those of the second.
        self.layers = [*self._network(*sizes[::-1]), *self._network(*sizes)]
        self.built = True

    def _network(self, inputs, outputs):
        units = (inputs, self.units, self.units, 2 * outputs)
        layers = []
        for given, size, activation in zip(units, units[1:], ("relu", "relu", None)):
            layers.append(keras.layers.Dense(size, activation, dtype=self.dtype_policy))
            layers[-1].build((None, given))
        return layers

    def call(self, inputs: Any, inverse: bool = False) -> Any:
        first, second = inputs[..., : self._first], inputs[..., self._first :]
        if inverse:
            second = self._moved(second, 1, first, True)
            first = self._moved(first, 0, second, True)
        else:
            first = self._moved(first, 0, second, False)
            second = self._moved(second, 1, first, False)
        return ops.concatenate([first, second], axis=-1)

    def _moved(self, half, index, other, inverse):
        for layer in self.layers[3 * index : 3 * index + 3]:
            other = layer(other)
        raw, shift = ops.split(other, 2, axis=-1)
        scale = (2.0 * self.clamp / math.pi) * ops.arctan(raw)
        return (half - shift) * ops.exp(-scale) if inverse else half * ops.exp(scale) + shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
