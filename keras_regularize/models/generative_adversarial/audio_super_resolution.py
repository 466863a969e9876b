"""Waveforms of more samples, by a spectral loss and a discriminator."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.losses.audio.feature_matching import feature_matching_loss
from keras_regularize.losses.audio.multi_resolution_stft import MultiResolutionSTFT
from keras_regularize.losses.generative_adversarial import discriminator_loss
from keras_regularize.models.generative_adversarial._inputs import check_alike, check_samples
from keras_regularize.models.generative_adversarial.adversarial_model import AdversarialModel
from keras_regularize.models.step.standalone import mean_loss
from keras_regularize.numerics import mean, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class AudioSuperResolution(AdversarialModel):
    r"""Gives waveforms of few samples the high frequencies that they lack: `fit(low, high)`, `predict(low)`.

    With the generator $G$ and a discriminator that gives the maps $\phi_{sl}$ of its layers at $S$ scales, the
    last of each being logits $D_s$, a step moves the discriminator and then $G$ down

    $$\sum_s \overline{(1 - D_s(y))_+} + \overline{(1 + D_s(G(x)))_+}, \qquad
      \ell\big(y, G(x)\big) + w\, \sum_s \overline{(1 - D_s(G(x)))_+}
      + \lambda\, \frac{4}{5S} \sum_{s,l} \overline{|\phi_{sl}(G(x)) - \phi_{sl}(y)|},$$

    where $\ell$ is the loss of spectrograms. It alone tells the generator how loud each frequency is on the whole;
    which of those that could be there are there, in which phase, a median is the answer of. The discriminator
    does not accept that. `kr.generative.SpectralUNet` and `kr.generative.MultiScaleDiscriminator` are networks
    for it, and `kr.metrics.LogSpectralDistance` is what it is judged by.

    Args:
        generator: $G$, a model from waveforms `(batch, time, 1)` to longer ones.
        discriminator: A model of waveforms `(batch, time, 1)`, whose outputs are a list for each scale of the
            maps of its layers, the last of them logits.
        reconstruction_loss: $\ell$, a Keras loss or its name; `None` for `kr.losses.MultiResolutionSTFT()`.
        adversarial_weight: $w \ge 0$.
        features_weight: $\lambda \ge 0$.
        seed: Seed of the random generators.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: $x$. Output: $G(x)$.

    Raises:
        ValueError: If an argument is out of range, the discriminator's outputs are no such lists, or targets are
            missing, no floating tensor or of another shape.

    Cost: two forward passes of the generator and four of the discriminator, a backward pass of each, and the loss.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    generator = kr.generative.SpectralUNet(64, 2, fft_size=32, hop_size=8, filters=(4,))
    discriminator = kr.generative.MultiScaleDiscriminator(scales=2, filters=4, num_layers=1)
    loss = kr.losses.MultiResolutionSTFT((64, 32), (16, 8), (64, 32))
    model = kr.models.AudioSuperResolution(generator, discriminator, loss)
    adam = lambda: keras.optimizers.Adam(3e-4, beta_1=0.8)
    model.compile(adam(), adam(), metrics=[kr.metrics.LogSpectralDistance(64, 16)])
    high = np.sin(np.arange(128.0) * np.linspace(1, 2, 8)[:, None])[..., None]
    model.fit(high[:, ::2], high, verbose=0)
    predicted = model.predict(high[:, ::2], verbose=0)
    ```

    Reference: Moshe Mandel, Or Tal and Yossi Adi, *AERO: Audio Super Resolution in the Spectral Domain*, ICASSP
    2023, arXiv:2211.12232. Differs from the authors' code in moving the discriminator first.
    """

    values: Sequence[str] = ("reconstruction_loss", "features_loss")

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        reconstruction_loss: Any = None,
        adversarial_weight: float = 1.0,
        features_weight: float = 100.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(generator, discriminator, seed=seed, **kwargs)
        self.reconstruction_loss = reconstruction_loss
        self._reconstruction = keras.losses.get(
            MultiResolutionSTFT() if reconstruction_loss is None else reconstruction_loss
        )
        self.adversarial_weight = check_number("adversarial_weight", adversarial_weight, minimum=0)
        self.features_weight = check_number("features_weight", features_weight, minimum=0)

    def check_batch(self, x: Any, y: Any) -> None:
        check_samples(self, "y", y)

    def judged(self, waveforms: Any, training: bool) -> tuple[list[Any], list[Any]]:
        """The logits of each scale, and the maps before them."""
        outputs = self.discriminator(waveforms, training=training)
        declared: Any = getattr(self.discriminator, "output", None)
        single = _is_list(declared) and len(declared) == 1
        if single and _is_list(outputs) and not any(map(_is_list, outputs)):
            outputs = [outputs]  # Keras takes the list around that of a single scale away.
        if not _is_list(outputs) or not all(_is_list(maps) and len(maps) for maps in outputs):
            raise ValueError(
                "The discriminator must give a list of maps for each scale. "
                f"Received: {tree.map_structure(lambda t: tuple(t.shape), outputs)}"
            )
        return [maps[-1] for maps in outputs], [map for maps in outputs for map in maps[:-1]]

    def discriminator_objective(self, x, y, training):
        fake = ops.stop_gradient(self.generator(x, training=training))
        check_alike(y, fake)
        (real, _), (generated, _) = (self.judged(z, training) for z in (y, fake))
        return sum(discriminator_loss(r, g, "hinge") for r, g in zip(real, generated)), {}

    def generator_objective(self, x, y, training):
        generated = self.generator(x, training=training)
        error = mean_loss(self._reconstruction, upcast(y), upcast(generated))
        logits, maps = self.judged(generated, training)
        adversarial = sum(mean(ops.relu(1.0 - upcast(logit))) for logit in logits)
        features = ops.zeros((), error.dtype)
        if maps:
            _, real = self.judged(y, training)
            features = 0.8 * len(maps) / len(logits) * feature_matching_loss(real, maps)
        loss = error + self.adversarial_weight * adversarial + self.features_weight * features
        return loss, {"reconstruction_loss": error, "features_loss": features}


def _is_list(x):
    return isinstance(x, (list, tuple))
