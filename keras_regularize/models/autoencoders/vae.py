"""The variational autoencoder, with the weight of its two terms balanced by itself."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff.compiled_losses import masked_sample_mean
from keras_regularize.configuration import Configured
from keras_regularize.layers.noise.gaussian_sampling import add_kl_weight, drawn
from keras_regularize.losses.probabilistic.vae import (
    balanced_mse_update,
    gaussian_kl,
    gaussian_nll,
    soft_clipped_log_sigma,
    squared_errors,
    sum_per_sample,
)
from keras_regularize.models.autoencoders._reconstructing import Reconstructing
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice, check_integer, check_number, compatible

_LEAST_LOG_SIGMA = -6.0
# Losses of Keras that are means over the last axis, where a likelihood is a sum.
_MEANS = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.Huber,
    keras.losses.LogCosh,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanSquaredError,
    keras.losses.Poisson,
)


@export
class VAE(Configured, Reconstructing):
    r"""Learns to draw data like its own: an autoencoder whose codes are normal and close to standard normal.

    `fit(x)` minimizes, per sample,

    $$\sum_D \frac{(x - \hat x)^2}{2 \gamma^2} + \frac D2 \log(2 \pi \gamma^2)
      + \beta\, \mathrm{KL}\big(N(\mu, \sigma^2)\,\|\,N(0, I)\big), \quad \hat x = g(z),\ z \sim N(\mu, \sigma^2)$$

    for the encoder $x \mapsto (\mu, \log \sigma^2)$ and the decoder $g$. The variance $\gamma^2$ decides how the
    two terms weigh. With $\gamma = 1$, whatever the data, images between 0 and 1 become blurred. `balance` finds
    it:

    | `balance` | $\gamma^2$ |
    |---|---|
    | `None` | 1 |
    | `"computed"` | $m \leftarrow \min(m,\, \alpha m + (1 - \alpha)\,e)$, $e$ the error of a batch: the paper's |
    | `"learned"` | a trained weight |
    | `"optimal"` | the mean squared error of the batch, $\log \gamma$ softly above -6: the $\sigma$-VAE |

    $m$ begins at 1, is saved with the model, never rises, and is not moved by `evaluate`; the loss of a batch
    takes $m$ from before it. The error is $e = \frac1D \sum_D (x - \hat x)^2$, averaged over the batch. On several
    TensorFlow replicas the batch of `"optimal"`, and of free bits by `"batch"`, is the share of a replica.

    `predict(x)` gives reconstructions from the mean codes, `encode(x)` these codes, `decode(z)` what they stand
    for and `sample(n)` new data. `fit` and `evaluate` log the `mean_squared_error` and the `kl_divergence` beside
    the loss; in `evaluate` codes are drawn too, by the same noise for all samples, so that the result repeats. The
    model itself gives a dictionary of the `"reconstruction"` and of `"mean"` and `"log_variance"` of the codes.

    With `fit(x, y)` the reconstruction is compared with `y`, in the shape of `x`. Other train steps wrap it:
    `SAM(VAE(encoder, decoder))`. `kr.callbacks.KLAnnealing` raises $\beta$ in the first epochs.

    Args:
        encoder: Model of the data that gives a list of $\mu$ and $\log \sigma^2$, `(batch, …)` of the same shape.
        decoder: Model of codes that gives $\hat x$ in the shape of the data.
        reconstruction: `"mse"`, the above; `"binary_crossentropy"` for data in [0, 1] and a decoder of
            probabilities, summed over all $D$ entries; or a loss, whose values are summed: those of Keras that are
            means over the last axis are multiplied by its size.
        balance: How $\gamma^2$ is found, for `"mse"`.
        kl_weight: $\beta \ge 0$. It is kept in the model's variable `kl_weight`.
        free_bits: Nats per dimension of the code that are free, at least 0: see `kr.generative.gaussian_kl`.
        free_bits_reduction: `"sample"` or `"batch"`.
        momentum: $\alpha$ of `"computed"`, at least 0 and below 1.
        seed: Integer seed of the draws, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: that of the encoder. Output: a dictionary, see above.

    Raises:
        ValueError: If an argument is out of range, `balance` is given beside another loss than `"mse"`, a loss is
            compiled, or shapes do not fit.

    Cost: one pass of encoder and decoder.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    inputs = keras.Input((8,))
    encoder = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8)])
    vae = kr.models.VAE(encoder, decoder, balance="computed")
    vae.compile("adam")
    vae.fit(np.random.normal(size=(64, 8)), verbose=0)
    new = vae.sample(5)  # (5, 8)
    ```

    Reference: Andrea Asperti and Matteo Trentin, *Balancing reconstruction error and Kullback-Leibler divergence
    in Variational Autoencoders*, IEEE Access 2020, arXiv:2002.07514. Learned: Bin Dai and David Wipf, *Diagnosing
    and Enhancing VAE Models*, ICLR 2019, arXiv:1903.05789. Optimal: Oleh Rybkin, Kostas Daniilidis and Sergey
    Levine, *Simple and Effective VAE Training with Calibrated Decoders*, ICML 2021, arXiv:2006.13202.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        reconstruction: Any = "mse",
        balance: str | None = None,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
        free_bits_reduction: str = "sample",
        momentum: float = 0.99,
        seed: int | None = None,
        **kwargs: Any,
    ):
        for name, part in {"encoder": encoder, "decoder": decoder}.items():
            if not isinstance(part, keras.layers.Layer):
                raise ValueError(f"`{name}` must be a model or layer. Received: {name}={part!r}")
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        if not isinstance(reconstruction, keras.losses.Loss):
            check_choice("reconstruction", reconstruction, ("mse", "binary_crossentropy"))
        self.reconstruction = reconstruction
        self.balance = check_choice("balance", balance, (None, "computed", "learned", "optimal"))
        if balance is not None and reconstruction != "mse":
            raise ValueError(
                '`balance` finds the variance of `reconstruction="mse"`. Received: '
                f"balance={balance!r}, reconstruction={reconstruction!r}"
            )
        self.kl_weight = add_kl_weight(self, kl_weight)
        self.free_bits = check_number("free_bits", free_bits, minimum=0)
        self.free_bits_reduction = check_choice(
            "free_bits_reduction", free_bits_reduction, ("sample", "batch")
        )
        self.momentum = check_number("momentum", momentum, minimum=0, below=1)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        if balance == "computed":
            self.mean_squared_error = self._scalar("mean_squared_error", 1.0, aggregation="mean")
        if balance == "learned":
            self.log_gamma = self._scalar("log_gamma", 0.0, trainable=True)
        self._elementwise = reconstruction in ("mse", "binary_crossentropy")
        if self._elementwise:
            self.error_tracker = keras.metrics.Mean("mean_squared_error")
        self.divergence_tracker = keras.metrics.Mean("kl_divergence")
        self._latent_shape: tuple[Any, ...] | None = None

    def _scalar(self, name, value, trainable=False, aggregation=None):
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=trainable,
            dtype="float32",
            autocast=False,
            aggregation=aggregation,
            name=name,
        )

    # Codes and data

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        mean, log_variance = self._encoded(inputs, training)
        shape = ops.shape(mean)
        if training:
            noise = keras.random.normal(shape, dtype="float32", seed=self.seed_generator)
        else:
            noise = keras.random.normal((1, *shape[1:]), dtype="float32", seed=self.seed or 0)
        codes = ops.cast(drawn(mean, log_variance, noise), mean.dtype)
        return {
            "reconstruction": self.decoder(codes, training=training),
            "mean": mean,
            "log_variance": log_variance,
        }

    def encode(self, inputs: Any) -> Any:
        """The means of the codes, a tensor `(batch, …)`."""
        return self._encoded(inputs, False)[0]

    def decode(self, codes: Any) -> Any:
        """What codes stand for, a tensor in the shape of the data."""
        return self.decoder(ops.convert_to_tensor(codes), training=False)

    def reconstruct(self, inputs: Any) -> Any:
        """What the means of the codes stand for, a tensor in the shape of the data."""
        return self.decode(self.encode(inputs))

    def sample(self, num_samples: int, seed: int | None = None) -> Any:
        """New data, a tensor `(num_samples, …)`, from standard normal codes; with a seed the same each time."""
        check_integer("num_samples", num_samples, minimum=0)
        outputs = getattr(self.encoder, "outputs", None)
        shape = tuple(outputs[0].shape[1:]) if outputs else self._latent_shape
        if shape is None or None in shape:
            raise ValueError(
                "`sample` needs to know the shape of a code: call the model on data first, or decode codes of "
                f"your own by `decode`. Received: a code of shape {shape}"
            )
        seed = self.seed_generator if seed is None else seed
        codes = keras.random.normal((num_samples, *shape), dtype=self.compute_dtype, seed=seed)
        return ops.stop_gradient(self.decode(codes))

    def _encoded(self, inputs, training):
        given = self.encoder(inputs, training=training)
        if not isinstance(given, (list, tuple)) or len(given) != 2:
            raise ValueError(
                "The encoder of a `VAE` must give a list [mean, log_variance]. Received: "
                f"{type(given).__name__} {getattr(given, 'shape', '')}".rstrip()
            )
        if not compatible(given[0].shape, given[1].shape):
            raise ValueError(
                "The encoder of a `VAE` must give a mean and a log-variance of the same shape. "
                f"Received: {tuple(given[0].shape)} and {tuple(given[1].shape)}"
            )
        self._latent_shape = tuple(given[0].shape[1:])
        return given

    @property
    def reconstruction_variance(self) -> float:
        r"""$\gamma^2$ that the model has now, of a `balance` other than `"optimal"`."""
        if self.reconstruction != "mse" or self.balance == "optimal":
            raise ValueError(
                "The variance is that of the data for each batch, or of no normal distribution. Received: "
                f"balance={self.balance!r}, reconstruction={self.reconstruction!r}"
            )
        return float(ops.convert_to_numpy(ops.stop_gradient(self._variance(None))))

    # Training

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        target, outputs = self._compared(x, y, y_pred, sample_weight)
        if self.reconstruction == "mse":
            squares, size = squared_errors(target, outputs)
            error = masked_sample_mean(squares / size, outputs, sample_weight)
            values = gaussian_nll(squares, size, self._variance(error))
            if training and self.balance == "computed":
                state = self.mean_squared_error
                state.assign(balanced_mse_update(state.value, error, self.momentum))
        else:
            values = self._likelihood(target, outputs)
        weight = ops.cast(self.kl_weight, values.dtype)
        values = values + weight * ops.cast(self._divergence(y_pred), values.dtype)
        loss = masked_sample_mean(values, outputs, sample_weight)
        return self.with_penalties(loss)

    def _variance(self, error):
        """$\\gamma^2$ for a batch of this mean squared error."""
        if self.balance == "computed":
            return self.mean_squared_error.value
        if self.balance == "learned":
            return ops.exp(2.0 * ops.convert_to_tensor(self.log_gamma))
        if self.balance == "optimal":
            return ops.exp(2.0 * soft_clipped_log_sigma(error, _LEAST_LOG_SIGMA))
        return ops.convert_to_tensor(1.0)

    def _likelihood(self, target, outputs):
        loss = self.reconstruction
        if loss == "binary_crossentropy":
            loss = keras.losses.BinaryCrossentropy()
        outputs = upcast(outputs)
        factor = 1
        if isinstance(loss, _MEANS):
            target, outputs = align_targets(target, outputs)
            factor = outputs.shape[-1]
        return factor * sum_per_sample(upcast(loss.call(target, outputs)))

    def _divergence(self, y_pred):
        return gaussian_kl(
            y_pred["mean"], y_pred["log_variance"], self.free_bits, self.free_bits_reduction
        )

    def _compared(self, x, y, y_pred, sample_weight):
        target, outputs = x if y is None else y, y_pred["reconstruction"]
        shape = tuple(target.shape)
        if self._elementwise and not compatible(shape, outputs.shape):
            raise ValueError(
                "A `VAE` compares its reconstruction with the data, or with `y` of the same shape: labels are not "
                f"used. Received: {'x' if y is None else 'y'} of shape {shape}, a reconstruction of shape "
                f"{tuple(outputs.shape)}"
            )
        if self._elementwise and sample_weight is not None:
            # A target of weight 0 may be anything, whose gradient would be NaN even times 0.
            rows = ops.reshape(sample_weight, (-1, *(1,) * (len(outputs.shape) - 1)))
            target = ops.cast(ops.convert_to_tensor(target), outputs.dtype)
            target = ops.where(rows != 0, target, ops.stop_gradient(outputs))
        return target, outputs

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        target, outputs = self._compared(x, y, y_pred, sample_weight)
        if self._elementwise:
            squares, size = squared_errors(target, outputs)
            _track(self.error_tracker, squares / size, sample_weight)
        divergence = gaussian_kl(y_pred["mean"], y_pred["log_variance"])
        _track(self.divergence_tracker, divergence, sample_weight)
        return super().compute_metrics(x, target, outputs, sample_weight)


def _track(tracker, values, sample_weight):
    """Adds values `(batch,)` to a mean; one of weight 0 may be anything."""
    if sample_weight is not None:
        sample_weight = ops.reshape(ops.convert_to_tensor(sample_weight, values.dtype), (-1,))
        values = ops.where(sample_weight != 0, values, 0.0)
    tracker.update_state(values, sample_weight)
