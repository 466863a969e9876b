"""Normal codes of a variational autoencoder: drawn in the model, with their divergence in its loss."""

from typing import Any

import keras
from keras import ops

from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.noise._noise import Noise
from keras_regularize.losses.probabilistic.vae import gaussian_kl
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number, compatible


@export
class GaussianSampling(Noise):
    r"""Draws codes from the normal distributions that an encoder gives, and adds their divergence to the loss.

    $$z = \mu + \sigma \epsilon, \quad \epsilon \sim N(0, I), \qquad
      \text{loss} \mathrel{+}= \beta\, \frac1B \sum_i \mathrm{KL}\big(N(\mu_i, \sigma_i^2)\,\|\,N(0, I)\big),$$

    the bottleneck of a variational autoencoder that is written as a functional model, or of a variational
    information bottleneck in front of a classifier. At inference $z = \mu$; the divergence counts in `evaluate`
    too. Since the mean over outputs that Keras' losses take is a sum divided by their number $D$, beside `"mse"`
    $\beta = 2 \gamma^2 / D$ for data of variance $\gamma^2$ around the reconstruction: `kr.models.VAE` sees to it.
    `kr.callbacks.KLAnnealing` raises $\beta$ in the course of training.

    Args:
        kl_weight: $\beta \ge 0$. It is kept in the layer's variable `kl_weight`.
        free_bits: Nats per dimension that are free, at least 0: see `kr.generative.gaussian_kl`.
        seed: Integer seed of the draws, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: a list of $\mu$ and $\log \sigma^2$, floats `(batch, …)` of the same shape. For the draws the latter is
    kept within ±20. Output: $z$ of that shape and dtype.

    Raises:
        ValueError: If an argument is out of range, or the inputs are no such list.

    Cost: a draw and two exponentials per entry.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    inputs = keras.Input((8,))
    mean, log_variance = keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)
    z = kr.layers.GaussianSampling(kl_weight=0.1)([mean, log_variance])
    model = keras.Model(inputs, keras.layers.Dense(8)(z))
    model.compile("adam", "mse")
    x = np.random.normal(size=(64, 8))
    model.fit(x, x, verbose=0)
    ```

    Reference: Diederik P. Kingma and Max Welling, *Auto-Encoding Variational Bayes*, ICLR 2014, arXiv:1312.6114.
    """

    def __init__(
        self,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.supports_masking = False
        self.free_bits = check_number("free_bits", free_bits, minimum=0)
        self.kl_weight = add_kl_weight(self, kl_weight)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = super().call(inputs, training)
        divergence = gaussian_kl(inputs[0], inputs[1], self.free_bits)
        count = ops.cast(ops.maximum(ops.shape(divergence)[0], 1), divergence.dtype)
        weight = ops.cast(self.kl_weight, divergence.dtype)
        add_float_loss(self, weight * ops.sum(divergence) / count)
        return z

    def _check(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            raise ValueError(
                "`GaussianSampling` needs a list [mean, log_variance]. "
                f"Received: {type(inputs).__name__} {getattr(inputs, 'shape', '')}".rstrip()
            )
        mean, log_variance = inputs
        super()._check(mean)
        if not compatible(mean.shape, log_variance.shape):
            raise ValueError(
                "`GaussianSampling` needs a mean and a log-variance of the same shape. Received: "
                f"mean.shape={tuple(mean.shape)}, log_variance.shape={tuple(log_variance.shape)}"
            )

    def _perturb(self, inputs):
        mean, log_variance = inputs
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=self.seed_generator)
        return ops.cast(drawn(mean, log_variance, noise), mean.dtype)

    def _expected(self, inputs):
        return inputs[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        self._check(inputs)
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)


def drawn(mean: Any, log_variance: Any, noise: Any) -> Any:
    """Codes from standard normal noise, in at least float32."""
    deviation = ops.exp(0.5 * ops.clip(upcast(log_variance), -20.0, 20.0))
    return upcast(mean) + deviation * ops.cast(noise, deviation.dtype)


def add_kl_weight(layer: keras.layers.Layer, kl_weight: float) -> keras.Variable:
    """The variable in which a layer or model keeps the weight of its divergence: `KLAnnealing` sets it.

    The layer's `initial_kl_weight` is the number that it starts from.
    """
    layer.initial_kl_weight = check_number("kl_weight", kl_weight, minimum=0)
    return layer.add_weight(
        shape=(),
        initializer=keras.initializers.Constant(layer.initial_kl_weight),
        trainable=False,
        dtype="float32",
        autocast=False,
        name="kl_weight",
    )
