"""Generative adversarial networks under a continuous condition."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.losses.condition_lipschitz import (
    METHODS,
    condition_lipschitz_penalty,
    conditioned,
)
from keras_regularize.losses.generative_adversarial import generator_loss
from keras_regularize.models.generative_adversarial._inputs import check_alike, check_samples
from keras_regularize.models.generative_adversarial._slopes import apart
from keras_regularize.models.generative_adversarial.gan import GAN
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class ConditionalGAN(GAN):
    r"""Learns to generate samples under a continuous condition, also under conditions it has not seen.

    A `GAN` whose generator gets noise and condition and whose discriminator gets sample and condition, with
    `kr.generative.condition_lipschitz_penalty` in the loss of the generator: samples move slowly with the
    condition, so that between the conditions of the data they are what lies between.

    `fit(conditions, samples)`; `predict(conditions)` draws a sample for each.

    Args:
        generator: A model of `[noise, condition]`, or of both joined along the last axis.
        discriminator: A model of `[sample, condition]`, or of both joined along the last axis; gives logits.
        latent_dim: Size of the noise, at least 1.
        loss: A kind of `kr.generative.discriminator_loss`.
        condition_penalty: Factor of the penalty, at least 0. For samples and conditions of a size of about one,
            0.1 suits `"jacobian"` and `"difference"`, and 1 `"squared_difference"`; ten times as much may draw
            wrongly at the conditions of the data too.
        condition_penalty_method: Its method, `"jacobian"`, `"difference"` or `"squared_difference"`.
        condition_noise: Its `noise`, above 0.
        mix_conditions: Whether it is taken at mixtures of the conditions of a batch, which reaches what lies
            between them.
        penalty: Penalty of the discriminator as of `GAN`; needed with `"wasserstein"`.
        penalty_factor: Its factor, at least 0.
        penalty_every: Add it at every so-many-th step only, so much larger.
        discriminator_steps: Steps of the discriminator for one of the generator, at least 1.
        seed: Seed of the noise.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: conditions `(batch, size)`. Output: a sample for each.

    Raises:
        ValueError: If an argument is out of range, samples are missing, no floating tensor or of another shape
            than those of the generator.

    Cost: that of `GAN`, and one pass of the generator more, or for `"jacobian"` as many as a condition has
    numbers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    dense = keras.layers.Dense
    generator = keras.Sequential([keras.Input((3,)), dense(16, "relu"), dense(2)])
    discriminator = keras.Sequential([keras.Input((3,)), dense(16, "relu"), dense(1)])
    model = kr.models.ConditionalGAN(generator, discriminator, latent_dim=2)
    model.compile("adam", "adam")
    angle = np.random.default_rng(0).uniform(0, 6, (64, 1)).astype("float32")
    model.fit(angle, np.concatenate([np.cos(angle), np.sin(angle)], axis=1), verbose=0)
    points = model.predict(angle, verbose=0)
    ```

    Reference: Yufeng Zheng, Yunkai Zhang and Zeyu Zheng, *Continuous Conditional Generative Adversarial Networks
    with Generator Regularization*, 2021, arXiv:2103.14884. See `kr.generative.condition_lipschitz_penalty` for
    what of it is known.
    """

    values: Sequence[str] = ("penalty", "condition_penalty")

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        latent_dim: int,
        loss: str = "wasserstein",
        condition_penalty: float = 1.0,
        condition_penalty_method: str = "difference",
        condition_noise: float = 0.05,
        mix_conditions: bool = False,
        penalty: str | None = "wgan_gp",
        penalty_factor: float = 10.0,
        penalty_every: int = 1,
        discriminator_steps: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            generator,
            discriminator,
            latent_dim,
            loss,
            penalty,
            penalty_factor,
            penalty_every,
            discriminator_steps,
            seed,
            **kwargs,
        )
        self.condition_penalty = check_number("condition_penalty", condition_penalty, minimum=0)
        self.condition_penalty_method = check_choice(
            "condition_penalty_method", condition_penalty_method, METHODS
        )
        self.condition_noise = check_number("condition_noise", condition_noise, above=0)
        self.mix_conditions = bool(mix_conditions)

    def build_networks(self) -> None:
        for name in ("generator", "discriminator"):
            if not getattr(self, name).built:
                raise ValueError(f"`{name}` must be built: begin it with `keras.Input`.")

    def symbolic_inputs(self) -> Any:
        *_, given = self.generator.inputs
        size = given.shape[-1] - (self.latent_dim if len(self.generator.inputs) == 1 else 0)
        return keras.Input((*given.shape[1:-1], size), dtype=given.dtype)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.generated(inputs, training)

    def generated(self, conditions: Any, training: bool | None) -> Any:
        """A sample under each condition, from fresh noise."""
        noise = self.noise(conditions)
        return self.generator(conditioned(self.generator, noise, conditions), training=training)

    def sample(self, num_samples: int, seed: int | None = None, batch_size: int = 256) -> Any:
        """Not of a conditional model: `predict(conditions)` draws samples."""
        raise ValueError("`ConditionalGAN` samples under conditions: `predict(conditions)`.")

    def generate(self, x: Any) -> Any:
        return self.generated(x, False)

    def target(self, x: Any, y: Any) -> Any:
        return y

    def check_batch(self, x: Any, y: Any) -> None:
        check_samples(self, "conditions", x)
        if len(x.shape) < 2:
            raise ValueError(f"Expected conditions (batch, size). Received: shape {tuple(x.shape)}")
        check_samples(self, "y", y)

    def discriminator_objective(self, x, y, training):
        fake = ops.stop_gradient(self.generated(x, training))
        check_alike(y, fake)
        return self.judged(y, fake, training, x)

    def generator_objective(self, x, y, training):
        noise = self.noise(x)
        generated = self.generator(conditioned(self.generator, noise, x), training=training)
        fake, real = self.discriminator(self.shown(generated, x), training=training), None
        if self.initial_loss.startswith("relativistic"):
            real = self.discriminator(self.shown(y, x), training=training)
        loss = generator_loss(fake, real, self.initial_loss)
        if not self.condition_penalty:
            return loss, {}
        alone = apart(self.generator, training)
        penalty = condition_lipschitz_penalty(
            lambda both: alone(conditioned(self.generator, *both)),
            noise,
            x,
            factor=self.condition_penalty,
            method=self.condition_penalty_method,
            noise=self.condition_noise,
            mix_conditions=self.mix_conditions,
            seed=self.seed_generator,
        )
        return loss + upcast(penalty), {"condition_penalty": penalty}

    def shown(self, samples: Any, condition: Any = None) -> Any:
        return conditioned(self.discriminator, samples, condition)
