"""Scores of clean data that are learnt from noisy data alone."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.models.diffusion.denoising_diffusion import (
    joint_weight,
    refuse_labels,
    split_inputs,
)
from keras_regularize.models.diffusion.schedules import per_sample
from keras_regularize.models.diffusion.score_matching import (
    DIVERGENCES,
    denoising_score_matching,
    risk_and_output,
)
from keras_regularize.models.step.standalone import OwnLoss
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number, check_numbers


@export
class SUREScore(Configured, OwnLoss):
    r"""Learns the scores of data at many noise levels where all data there are have noise themselves.

    The network gives out $s(x; \sigma)$. At the level $\sigma_w$ of the noise in the data $y$ it is a denoiser,

    $$h(y) = y + \sigma_w^2\, s(y; \sigma_w),$$

    which is trained by Stein's estimate of its error, `generative.sure`, that needs no clean data. What it makes
    of $y$ stands for clean data in the loss of the other levels, `generative.denoising_score_matching`:

    $$L = \frac1B \sum_b \operatorname{SURE}(y_b)
      + w\, \frac{\sigma^p}{2} \Big\| s(\tilde x_b; \sigma) + \frac{z}{\sigma} \Big\|^2, \qquad
      \tilde x_b = h(y_b) + \sigma z, \quad z \sim N(0, I),$$

    with a level $\sigma$ drawn for each sample. The gradient flows through $h(y)$ as well. `fit(y)` trains it;
    `denoise` gives $h$; with `score`, `generative.langevin` draws from the prior, or from the posterior given
    measurements.

    Args:
        network: Model of `[x, sigma]`, with `sigma (batch,)`, that gives out the score in the shape of `x`.
        noise_level: $\sigma_w \ge 0$, the deviation of the noise in the data.
        sigmas: The noise levels, above 0: `numpy.geomspace` from about the largest distance of two data down.
        score_weight: $w \ge 0$.
        score_warmup: Whether $w$ is multiplied by the number of the epoch, so that the first, 0, trains the
            denoiser alone.
        epsilon: As in `generative.sure`.
        divergence: As in `generative.sure`. `"exact"` is for few features.
        power: $p$.
        seed: Integer seed of the draws, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: floating noisy data `(batch, …)`. Output: a dictionary of both losses `(batch,)`, and `"denoised"`.
    `predict([x, sigma])` is that of the network.

    Raises:
        ValueError: If an argument is out of its range, data are integers, or labels or a loss are given.

    Cost: three passes of the network per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, sigma = keras.Input((2,)), keras.Input((1,))
    hidden = keras.layers.Dense(64, activation="tanh")(keras.layers.Concatenate()([x, sigma]))
    network = keras.Model([x, sigma], keras.layers.Dense(2)(hidden))
    model = kr.models.SUREScore(network, noise_level=0.3, sigmas=np.geomspace(3.0, 0.1, 8))
    model.compile("adam")
    noisy = np.random.normal(size=(256, 2))
    model.fit(noisy, epochs=2, verbose=0)
    clean = model.denoise(noisy)
    ```

    Reference: Asad Aali, Marius Arvinte, Sidharth Kumar and Jonathan I. Tamir, *Solving Inverse Problems with
    Score-Based Generative Priors learned from Noisy Data*, Asilomar 2023, arXiv:2305.01166. The authors' code
    leaves out the constant $-\sigma_w^2$.
    """

    def __init__(
        self,
        network: keras.Model,
        noise_level: float,
        sigmas: Sequence[float],
        score_weight: float = 1.0,
        score_warmup: bool = True,
        epsilon: float = 1e-3,
        divergence: str = "difference",
        power: float = 2.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(network, keras.Model):
            raise ValueError(f"`network` must be a `keras.Model`. Received: network={network!r}")
        super().__init__(**{"autocast": False, "dtype": network.dtype_policy, **kwargs})
        self.network = network
        self.noise_level = check_number("noise_level", noise_level, minimum=0)
        found = check_numbers("sigmas", sigmas, above=0)
        self.sigmas = found if isinstance(found, list) else [found]
        self.score_weight = check_number("score_weight", score_weight, minimum=0)
        self.score_warmup = bool(score_warmup)
        self.epsilon = check_number("epsilon", epsilon, above=0)
        self.divergence = check_choice("divergence", divergence, DIVERGENCES)
        self.power = check_number("power", power)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.epoch = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="epoch",
        )

    def build(self, input_shape: Any) -> None:
        """The network is built by itself, when it is first called."""

    def score(self, x: Any, sigma: Any, training: bool | None = False) -> Any:
        """Scores of data `(batch, …)` at noise levels `(batch,)` or a number, in at least single precision."""
        x = upcast(x)
        sigma = ops.zeros_like(x[(slice(None), *(0,) * (len(x.shape) - 1))]) + ops.cast(
            sigma, x.dtype
        )
        return ops.cast(self.network([x, sigma], training=training), x.dtype)

    def denoise(self, y: Any, batch_size: int = 256) -> np.ndarray:
        """The clean data that the denoiser sees in noisy ones: an array of the same shape."""
        y = np.asarray(ops.convert_to_numpy(y), "float32")
        sigma = np.full(len(y), self.noise_level, "float32")
        score = self.network.predict([y, sigma], batch_size=batch_size, verbose=0)
        return y + self.noise_level**2 * np.asarray(score, "float32")

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        y, _ = split_inputs(inputs, self.compute_dtype)
        generator = self.seed_generator

        def denoiser(y):
            return y + self.noise_level**2 * self.score(y, self.noise_level, training)

        risk, denoised = risk_and_output(
            denoiser, y, self.noise_level, None, self.epsilon, self.divergence, generator
        )
        index = keras.random.randint((ops.shape(y)[0],), 0, len(self.sigmas), seed=generator)
        levels = ops.convert_to_tensor(np.asarray(self.sigmas, "float32"))
        sigma = ops.cast(ops.take(levels, index, axis=0), y.dtype)
        z = keras.random.normal(ops.shape(y), dtype=y.dtype, seed=generator)
        noise = per_sample(sigma, y) * z
        score = self.score(denoised + noise, sigma, training)
        matching = denoising_score_matching(score, noise, sigma, self.power)
        return {"risk": risk, "score_matching": matching, "denoised": denoised}

    # Training

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """The callback by which the score counts more from epoch to epoch."""
        if not self.score_warmup:
            return []
        begins = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.epoch.assign(epoch)
        )
        return [begins]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        refuse_labels(self, y)
        risk = y_pred["risk"]
        factor = self.score_weight * (
            ops.cast(self.epoch, risk.dtype) if self.score_warmup else 1.0
        )
        values = risk + factor * y_pred["score_matching"]
        weight = joint_weight(None, sample_weight, values.dtype)
        return self.with_penalties(ops.mean(values if weight is None else weight * values))

    def predict_step(self, *arguments: Any) -> Any:
        return backend.predict_step(self, self.network, arguments)
