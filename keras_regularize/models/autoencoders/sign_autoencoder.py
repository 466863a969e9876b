"""An autoencoder with codes of one bit per unit."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.activations import straight_through_sign
from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class SignAutoencoder(Configured, keras.Model):
    r"""An autoencoder of two layers whose code is one bit per unit.

    $$\hat x = A\, \operatorname{sign}(B x), \qquad B \in \mathbb R^{n \times d} \text{ with rows of length 1.}$$

    The least error that any such autoencoder can have is known for Gaussian data
    (`kr.analysis.sign_autoencoder_limit`), and gradient descent finds it: with tied weights,
    $A = a B^\top$ with a learnt number $a$, $B$ becomes orthonormal if $n \le d$. The sign is differentiated as in
    `kr.activations.straight_through_sign`.

    Center the data, and scale them to deviations of about 1. Compile with `"mse"`, whose value in `fit(x, x)` is
    the risk per feature that `kr.analysis.sign_autoencoder_risk` computes.

    Args:
        units: $n \ge 1$, the number of bits of a code.
        tied: Whether $A = a B^\top$; else $A$ is a kernel of its own.
        temperature: That of `straight_through_sign`, above 0.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input and output: `(…, features)`.

    Raises:
        ValueError: If an argument is out of range, or the number of features is not known.

    Cost: that of two dense layers.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(256, 8))
    model = kr.models.SignAutoencoder(units=4)
    model.compile("adam", "mse")
    model.fit(x, x, verbose=0)
    bits = model.encode(x)
    ```

    Reference: Alexander Shevchenko, Kevin Kögler, Hamed Hassani and Marco Mondelli, *Fundamental Limits of
    Two-layer Autoencoders, and Achieving Them with Gradient Methods*, ICML 2023, arXiv:2212.13468.
    """

    def __init__(self, units: int, tied: bool = True, temperature: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = check_integer("units", units, minimum=1)
        self.tied = bool(tied)
        self.temperature = check_number("temperature", temperature, above=0)

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                "`SignAutoencoder` needs inputs (…, features) with a known number of features. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features, self.units),
            initializer=keras.initializers.RandomNormal(stddev=1 / math.sqrt(features)),
            constraint=keras.constraints.UnitNorm(axis=0),
        )
        if self.tied:
            # The best one for orthonormal rows and Gaussian data.
            best = keras.initializers.Constant(math.sqrt(2 / math.pi))
            self.scale = self.add_weight(name="scale", shape=(), initializer=best)
        else:
            self.decoder = self.add_weight(
                name="decoder", shape=(self.units, features), initializer="glorot_uniform"
            )
        self.built = True

    def encode(self, inputs: Any) -> Any:
        """The code, -1 or 1 for each unit, `(…, units)`."""
        inputs = ops.convert_to_tensor(inputs, self.compute_dtype)
        kernel = ops.cast(self.kernel, self.compute_dtype)
        return straight_through_sign(ops.matmul(inputs, kernel), self.temperature)

    def call(self, inputs: Any) -> Any:
        code = self.encode(inputs)
        if self.tied:
            decoder = self.scale * ops.transpose(self.kernel)
        else:
            decoder = ops.convert_to_tensor(self.decoder)
        return ops.matmul(code, ops.cast(decoder, code.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
