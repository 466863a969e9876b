"""Translation of images into images by a conditional adversarial network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.losses.generative_adversarial import (
    KINDS,
    discriminator_loss,
    generator_loss,
)
from keras_regularize.models.generative_adversarial._inputs import check_alike, check_samples
from keras_regularize.models.generative_adversarial.adversarial_model import AdversarialModel
from keras_regularize.models.step.standalone import mean_loss
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class Pix2Pix(AdversarialModel):
    r"""Translates images: a loss says that the output is near the target, a discriminator that it looks like one.

    For inputs $x$, targets $y$ and a discriminator of pairs, a step moves first $D$, then $G$ through it, down

    $$w\, \mathcal L_D\big(D(x, y), D(x, G(x))\big), \qquad
      \mathcal L_G\big(D(x, G(x))\big) + \lambda\, \overline{|y - G(x)|}.$$

    Absolute error alone gives the median of all that an input may stand for, which is blurred; a discriminator of
    patches judges sharpness, for which the whole picture is not needed. `kr.generative.UNetGenerator` and
    `kr.generative.PatchDiscriminator` are the authors' networks. The generator has no noise but its dropout.

    Args:
        generator: $G$, a model of $x$.
        discriminator: $D$, a model of two inputs `[x, y]`, or of one, then of both joined along the last axis.
        reconstruction_weight: $\lambda \ge 0$.
        adversarial_loss: A kind of `kr.generative.discriminator_loss`.
        discriminator_weight: $w > 0$; the authors halve the loss of the discriminator.
        reconstruction_loss: A Keras loss, or its name.
        seed: Seed of the random generators.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: $x$. Output: $G(x)$.

    Raises:
        ValueError: If an argument is out of range, or targets are missing, no floating tensor or of another shape.

    Cost: two forward passes of the generator and three of the discriminator, and a backward pass of each.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    generator = kr.generative.UNetGenerator((16, 16, 1), 1, filters=4, depth=3)
    discriminator = kr.generative.PatchDiscriminator((16, 16, 1), (16, 16, 1), filters=4, num_layers=1)
    model = kr.models.Pix2Pix(generator, discriminator)
    adam = lambda: keras.optimizers.Adam(2e-4, beta_1=0.5)
    model.compile(adam(), adam())
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 4, 16, 16, 1)).astype("float32")
    model.fit(x, y, verbose=0)
    translated = model.predict(x, verbose=0)
    ```

    Reference: Phillip Isola, Jun-Yan Zhu, Tinghui Zhou and Alexei Efros, *Image-to-Image Translation with
    Conditional Adversarial Networks*, CVPR 2017, arXiv:1611.07004. As the authors' PyTorch code: half the loss of
    $D$, and $G$ judged by the $D$ that has just stepped.
    """

    values: Sequence[str] = ("reconstruction_loss",)

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        reconstruction_weight: float = 100.0,
        adversarial_loss: str = "non_saturating",
        discriminator_weight: float = 0.5,
        reconstruction_loss: Any = "mae",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(generator, discriminator, seed=seed, **kwargs)
        self.reconstruction_weight = check_number(
            "reconstruction_weight", reconstruction_weight, minimum=0
        )
        self.adversarial_loss = check_choice("adversarial_loss", adversarial_loss, KINDS)
        self.discriminator_weight = check_number(
            "discriminator_weight", discriminator_weight, above=0
        )
        self.reconstruction_loss = reconstruction_loss
        self._reconstruction = keras.losses.get(reconstruction_loss)

    def check_batch(self, x: Any, y: Any) -> None:
        check_samples(self, "y", y)

    def pair(self, x: Any, y: Any) -> Any:
        """What the discriminator sees of an input and an output."""
        if len(self.discriminator.inputs) > 1:
            return [x, y]
        return ops.concatenate([ops.cast(x, y.dtype), y], axis=-1)

    def discriminator_objective(self, x, y, training):
        fake = ops.stop_gradient(self.generator(x, training=training))
        check_alike(y, fake)
        logits = [self.discriminator(self.pair(x, z), training=training) for z in (y, fake)]
        real_logits, fake_logits = logits
        loss = discriminator_loss(real_logits, fake_logits, self.adversarial_loss)
        return self.discriminator_weight * loss, {}

    def generator_objective(self, x, y, training):
        generated = self.generator(x, training=training)
        fake, real = self.discriminator(self.pair(x, generated), training=training), None
        if self.adversarial_loss.startswith("relativistic"):
            real = self.discriminator(self.pair(x, y), training=training)
        error = mean_loss(self._reconstruction, upcast(y), upcast(generated))
        adversarial = generator_loss(fake, real, self.adversarial_loss)
        return adversarial + self.reconstruction_weight * error, {"reconstruction_loss": error}
