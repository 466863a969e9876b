"""Charts of a manifold: maps from data to coordinates and back."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers.affine_coupling import AffineCoupling
from keras_regularize.validation import check_integer

_register = keras.saving.register_keras_serializable("keras_regularize.models")


@_register
class PairChart(Configured, keras.Model):
    """A chart of an encoder and a decoder."""

    def __init__(self, encoder: Any, decoder: Any, **kwargs: Any):
        for name, part in {"encoder": encoder, "decoder": decoder}.items():
            if not isinstance(part, keras.layers.Layer):
                raise ValueError(f"`{name}` must be a model or layer. Received: {name}={part!r}")
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.built = True  # It has no weights but theirs.

    def encode(self, inputs):
        return self.encoder(inputs)

    def decode(self, codes):
        return self.decoder(codes)

    def call(self, inputs):
        return self.decode(self.encode(inputs))


@_register
class InvertibleChart(Configured, keras.Model):
    """A chart of one invertible network: codes are padded with zeros to the size of the data."""

    def __init__(self, dim: int, latent: int, blocks: int, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim = check_integer("dim", dim, minimum=2)
        self.latent = check_integer("latent", latent, minimum=1, maximum=self.dim)
        self.blocks = check_integer("blocks", blocks, minimum=1)
        self.units = check_integer("units", units, minimum=1)
        self.couplings = [
            AffineCoupling(self.units, dtype=self.dtype_policy) for _ in range(self.blocks)
        ]
        for coupling in self.couplings:
            coupling.build((None, self.dim))
        self.built = True

    def encode(self, inputs):
        x = inputs
        for coupling in reversed(self.couplings):
            x = coupling(x, inverse=True)
        return x[..., : self.latent]

    def decode(self, codes):
        x = ops.pad(codes, [(0, 0), (0, self.dim - self.latent)])
        for coupling in self.couplings:
            x = coupling(x)
        return x

    def call(self, inputs):
        return self.decode(self.encode(inputs))


def invertible_chart(dim: int, latent: int, blocks: int = 5, units: int = 64) -> keras.Model:
    r"""A chart of a manifold for `kr.models.MixtureVAE`, whose encoder inverts its decoder exactly.

    The decoder pads a code with zeros, $D(z) = T(z, 0)$, and the encoder takes the first coordinates of
    $T^{-1}(x)$, where $T$ is a row of `kr.layers.AffineCoupling`: $E(D(z)) = z$ whatever the weights.

    Args:
        dim: Size of the data, at least 2.
        latent: Dimension of the manifold, from 1 to `dim`.
        blocks: Number of couplings, at least 1.
        units: Width of their networks, at least 1.

    Returns:
        A `keras.Model` with `encode(x)`, tensors `(batch, dim)` to `(batch, latent)`, and `decode(z)`; called, it
        gives `decode(encode(x))`.

    Raises:
        ValueError: If a size is out of range.

    Cost: building it; `2 * blocks` small networks per pass.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    chart = kr.generative.invertible_chart(dim=3, latent=2, blocks=2)
    z = np.random.normal(size=(4, 2)).astype("float32")
    same = chart.encode(chart.decode(z))
    ```

    Reference: Giovanni S. Alberti, Johannes Hertrich, Matteo Santacesaria and Silvia Sciutto, *Manifold Learning
    by Mixture Models of VAEs for Inverse Problems*, JMLR 2024, arXiv:2303.15244.
    """
    return InvertibleChart(dim, latent, blocks, units)
