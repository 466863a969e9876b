"""Nuclear norm regularization of a Jacobian."""

from typing import Any

import keras

from keras_regularize.configuration import Configured
from keras_regularize.layers import JacobianPenalty
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class JacobianNuclearNorm(Configured, keras.Model):
    r"""A model of two pieces whose Jacobian is penalized by its nuclear norm: locally of low rank.

    For $f = g \circ h$, an encoder and a decoder, training adds

    $$\frac{\lambda}{2}\, \frac1B \sum_i \big( \|J_h(x_i)\|_F^2 + \|J_g(h(x_i))\|_F^2 \big)
      \;\ge\; \lambda\, \frac1B \sum_i \|J_f(x_i)\|_*,$$

    and the pieces that minimize the whole make it an equation: no singular value is ever computed. Norms are
    estimated from noise as in `kr.layers.JacobianPenalty`. A penalized map keeps few directions at each point and
    drops the others, which takes noise off (as soft thresholding of singular values does for a linear one) and
    gives codes of low dimension. `kr.analysis.jacobian_nuclear_norm` measures the norm.

    Args:
        encoder: $h$, a layer or model of one floating input.
        decoder: $g$, a layer or model of what the encoder gives out.
        factor: $\lambda \ge 0$.
        stddev: Deviation of the noise, above 0, in units of the inputs and of the code.
        seed: Integer seed of the noise, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: that of the encoder. Output: that of the decoder.

    Raises:
        ValueError: If an argument is out of range, or a piece is no layer.

    Cost: three passes of each piece in training, one at inference.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(8)])
    decoder = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(4)])
    model = kr.models.JacobianNuclearNorm(encoder, decoder, factor=0.01)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, x, verbose=0)
    ```

    Reference: Christopher Scarvelis and Justin Solomon, *Nuclear Norm Regularization for Deep Learning*, NeurIPS
    2024, arXiv:2405.14544.
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        factor: float = 0.01,
        stddev: float = 0.05,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.factor = check_number("factor", factor, minimum=0)
        self.stddev = check_number("stddev", stddev, above=0)
        self.seed = check_integer("seed", seed, optional=True)
        self.supports_masking = True
        self.encoder = encoder
        self.decoder = decoder
        self.pieces = [
            JacobianPenalty(piece, self.factor, self.stddev, seed=seed)
            for piece in (encoder, decoder)
        ]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        for piece in self.pieces:
            inputs = piece(inputs, training=training)
        return inputs

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        for piece in self.pieces:
            previous_mask = piece.compute_mask(inputs, previous_mask)
        return previous_mask
