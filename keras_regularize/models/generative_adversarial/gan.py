"""Generative adversarial networks."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.losses.generative_adversarial import (
    KINDS,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)
from keras_regularize.models.generative_adversarial._inputs import check_alike, check_samples
from keras_regularize.models.generative_adversarial._slopes import (
    apart,
    logits_and_squared_slopes,
)
from keras_regularize.models.generative_adversarial.adversarial_model import AdversarialModel
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class GAN(AdversarialModel):
    r"""Learns to generate samples like those of the data, from noise.

    A step lets the discriminator $D$ step on `kr.generative.discriminator_loss` of real samples and of $G(z)$ for
    normal $z$, with a penalty of its slope, then the generator $G$ on `kr.generative.generator_loss` of fresh
    noise:

    | `penalty` | adds to the loss of the discriminator |
    |---|---|
    | `"wgan_gp"` | `kr.generative.gradient_penalty` between real and generated samples |
    | `"r1"`, `"r2"` | `kr.generative.r1_penalty` at real, or at generated ones |
    | `"r1_r2"` | both |

    `GAN(…, loss="relativistic", penalty="r1_r2")` is the recipe of R3GAN, which needs no tricks beside. Without a
    penalty the two chase each other and part of the data is left out.

    `fit(x)` takes samples, `predict(z)` noise, `sample(n)` gives samples.

    Args:
        generator: $G$, a model of `(batch, latent_dim)`.
        discriminator: $D$, a model of samples, with logits of any shape.
        latent_dim: Size of the noise, at least 1.
        loss: A kind of `kr.generative.discriminator_loss`.
        penalty: A penalty of the table, or None.
        penalty_factor: Factor of the penalty, at least 0; 10 by default.
        penalty_every: Add the penalty at every so-many-th step of the model only, so much larger.
        discriminator_steps: Steps of the discriminator for one of the generator, at least 1; 5 are usual for
            `"wasserstein"`.
        seed: Seed of the noise.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: noise `(batch, latent_dim)`. Output: samples.

    Raises:
        ValueError: If an argument is out of range, samples are no floating tensor or have labels, or they have
            another shape than those of the generator.

    Cost: per step `discriminator_steps` forward passes of the generator and forward-backward passes of two batches
    through the discriminator, then a forward-backward pass of both. R1 and R2 add a double backward pass of a
    batch each (with `penalty_every` a forward-backward pass more, but seldom), `"wgan_gp"` that and a
    forward-backward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    dense = keras.layers.Dense
    generator = keras.Sequential([keras.Input((2,)), dense(16, "relu"), dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), dense(16, "relu"), dense(1)])
    gan = kr.models.GAN(generator, discriminator, latent_dim=2, loss="relativistic", penalty="r1_r2")
    gan.compile(keras.optimizers.Adam(1e-3, beta_1=0.5), keras.optimizers.Adam(1e-3, beta_1=0.5))
    gan.fit(np.random.default_rng(0).normal(size=(64, 2)).astype("float32"), verbose=0)
    gan.sample(5).shape  # (5, 2)
    ```

    Reference: Ian Goodfellow and others, *Generative Adversarial Nets*, NeurIPS 2014, arXiv:1406.2661. R3GAN:
    Yiwen Huang, Aaron Gokaslan, Volodymyr Kuleshov and James Tompkin, *The GAN is dead; long live the GAN!*,
    NeurIPS 2024, arXiv:2501.05441. Penalties at some steps only: Tero Karras and others, *Analyzing and Improving
    the Image Quality of StyleGAN*, CVPR 2020, arXiv:1912.04958.
    """

    values: Sequence[str] = ("penalty",)

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        latent_dim: int,
        loss: str = "non_saturating",
        penalty: str | None = None,
        penalty_factor: float = 10.0,
        penalty_every: int = 1,
        discriminator_steps: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(generator, discriminator, discriminator_steps, seed, **kwargs)
        self.latent_dim = check_integer("latent_dim", latent_dim, minimum=1)
        self.initial_loss = check_choice("loss", loss, KINDS)
        self.penalty = check_choice("penalty", penalty, (None, "wgan_gp", "r1", "r2", "r1_r2"))
        self.penalty_factor = check_number("penalty_factor", penalty_factor, minimum=0)
        self.penalty_every = check_integer("penalty_every", penalty_every, minimum=1)

    def build_networks(self) -> None:
        fake = self.generator(keras.Input((self.latent_dim,)))
        if not self.discriminator.built:
            self.discriminator(fake)

    def symbolic_inputs(self) -> Any:
        return keras.Input((self.latent_dim,))

    def sample(self, num_samples: int, seed: int | None = None, batch_size: int = 256) -> Any:
        """`num_samples` generated samples, an array; with a `seed` the same each time."""
        check_integer("num_samples", num_samples, minimum=1)
        noise = keras.random.normal((num_samples, self.latent_dim), seed=seed)
        return self.predict(ops.convert_to_numpy(noise), batch_size=batch_size, verbose=0)

    def noise(self, like: Any) -> Any:
        """Noise for as many samples as there are in a batch."""
        shape = (ops.shape(like)[0], self.latent_dim)
        return keras.random.normal(shape, seed=self.seed_generator)

    def generate(self, x: Any) -> Any:
        return self.generator(self.noise(x), training=False)

    def target(self, x: Any, y: Any) -> Any:
        return x

    def check_batch(self, x: Any, y: Any) -> None:
        if y is not None:
            raise ValueError(
                f"`{type(self).__name__}` learns from samples alone, `fit(x)`. Received labels beside them."
            )
        check_samples(self, "x", x)

    def discriminator_objective(self, x, y, training):
        fake = ops.stop_gradient(self.generator(self.noise(x), training=training))
        check_alike(x, fake)
        return self.judged(x, fake, training)

    def generator_objective(self, x, y, training):
        generated = self.generator(self.noise(x), training=training)
        fake, real = self.discriminator(generated, training=training), None
        if self.initial_loss.startswith("relativistic"):
            real = self.discriminator(x, training=training)
        return generator_loss(fake, real, self.initial_loss), {}

    def shown(self, samples: Any, condition: Any = None) -> Any:
        """What the discriminator sees of samples."""
        return samples

    def judged(
        self, real: Any, fake: Any, training: bool, condition: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """The objective of the discriminator of real samples against generated ones, with its penalty."""
        at = [x for x, name in ((real, "r1"), (fake, "r2")) if name in (self.penalty or "")]
        at_each = self.penalty_every == 1
        logits, slopes = [], []
        for x in (real, fake):
            if at_each and any(x is point for point in at):
                outputs, squares = logits_and_squared_slopes(
                    self.discriminator, x, training, lambda x: self.shown(x, condition)
                )
                slopes.append(ops.mean(squares))
            else:
                outputs = self.discriminator(self.shown(x, condition), training=training)
            logits.append(outputs)
        real_logits, fake_logits = logits
        loss = discriminator_loss(real_logits, fake_logits, self.initial_loss)
        if self.penalty is None:
            return loss, {}
        factor, alone = self.penalty_factor, apart(self.discriminator, training)

        def critic(x):
            return alone(self.shown(x, condition))

        if slopes:
            penalty = 0.5 * factor * sum(slopes)
        elif self.penalty == "wgan_gp":
            shape = (ops.shape(real)[0], *(1,) * (len(real.shape) - 1))
            mix = keras.random.uniform(shape, seed=self.seed_generator)
            penalty = self._seldom(lambda: gradient_penalty(critic, real, fake, mix, factor))
        else:
            penalty = self._seldom(lambda: sum(r1_penalty(critic, x, factor) for x in at))
        return loss + penalty, {"penalty": penalty}

    def _seldom(self, penalty):
        """`penalty()` at some steps, so much larger."""
        if self.penalty_every == 1:
            return penalty()
        due = ops.equal(self.optimizer.iterations % self.penalty_every, 0)
        return self.penalty_every * ops.cond(due, penalty, lambda: ops.zeros(()))
