"""A generative adversarial network forgets a kind of samples."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize import autodiff
from keras_regularize.models.generative_adversarial.gan import GAN
from keras_regularize.models.generative_adversarial.repulsion_gan import RepulsionGAN
from keras_regularize.validation import check_integer, check_number


def adapt_then_unlearn(
    gan: GAN,
    negatives: Any,
    positives: Any,
    *,
    num_references: int = 1,
    adapt_epochs: int = 10,
    unlearn_epochs: int = 10,
    elasticity: float = 5e8,
    kind: str = "exponential",
    factor: float = 1.0,
    alpha: float | str = "auto",
    learning_rate: float = 2e-3,
    batch_size: int = 32,
    num_fisher_samples: int = 32,
    seed: int | None = None,
    verbose: Any = "auto",
) -> RepulsionGAN:
    r"""Lets a trained GAN forget what a few undesired samples show.

    1. Adapt: from the trained weights $\theta_0$, train on the undesired samples with $\frac\lambda2 \sum_i F_i
       (\theta_i - \theta_{0,i})^2$ in the loss of the generator, where $F_i$ is the mean square of the slope of
       the discriminator's score of a generated sample in that weight. This gives weights that know what is to be
       forgotten and little else; `num_references` times, on random halves of the undesired samples.
    2. Unlearn: from the trained weights again, train on desired samples with `kr.models.RepulsionGAN`.

    Args:
        gan: A trained `kr.models.GAN`. Its own networks end as those that have forgotten.
        negatives: Undesired samples, an array; few are enough.
        positives: Desired samples, an array.
        num_references: How often to adapt, at least 1.
        adapt_epochs: Epochs of each adaption over its samples, at least 1.
        unlearn_epochs: Epochs over the desired samples, at least 1.
        elasticity: $\lambda \ge 0$; the size depends on the networks. The authors' is for StyleGAN2 and holds
            small dense networks where they are; 1 is one to begin with for these.
        kind: Kind of the repulsion, as of `kr.models.RepulsionGAN`.
        factor: Its factor, at least 0.
        alpha: Its $\alpha$, or `"auto"`.
        learning_rate: That of Adam for both networks ($\beta_1 = 0$, $\beta_2 = 0.99$), above 0.
        batch_size: Samples of a batch, at least 1.
        num_fisher_samples: Generated samples that $F$ is the mean over, at least 1.
        seed: Seed of all that is drawn.
        verbose: As of `keras.Model.fit`.

    Returns:
        The trained `kr.models.RepulsionGAN`, of the same networks.

    Raises:
        ValueError: If an argument is out of range, `gan` is no `GAN`, or there are no samples.

    Cost: steps of the GAN, and a forward-backward pass for each sample of $F$. No weight of the networks is left
    changed if an error or Ctrl-C stops it before the second stage.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    gan = kr.models.GAN(generator, discriminator, latent_dim=2)  # … trained on all samples.
    undesired, desired = np.ones((8, 2), "float32"), np.zeros((32, 2), "float32")
    kr.generative.adapt_then_unlearn(
        gan, undesired, desired, adapt_epochs=2, unlearn_epochs=2, verbose=0
    )
    ```

    Reference: Piyush Tiwary, Atri Guha, Subhodip Panda and Prathosh A. P., *Adapt then Unlearn: Exploring
    Parameter Space Semantics for Unlearning in Generative Adversarial Networks*, 2023, arXiv:2309.14054. Their
    networks are StyleGAN2, with a path-length penalty that is left out here.
    """
    if not isinstance(gan, GAN):
        raise ValueError(f"`gan` must be a `kr.models.GAN`. Received: gan={gan!r}")
    negatives, positives = np.asarray(negatives), np.asarray(positives)
    if not len(negatives) or not len(positives):
        raise ValueError("Expected samples of both kinds. Received none of one.")
    for name, value in (
        ("num_references", num_references),
        ("adapt_epochs", adapt_epochs),
        ("unlearn_epochs", unlearn_epochs),
        ("batch_size", batch_size),
        ("num_fisher_samples", num_fisher_samples),
    ):
        check_integer(name, value, minimum=1)
    check_number("elasticity", elasticity, minimum=0)
    check_number("learning_rate", learning_rate, above=0)
    rng = np.random.default_rng(seed)

    def optimizers():
        return [keras.optimizers.Adam(learning_rate, beta_1=0.0, beta_2=0.99) for _ in range(2)]

    gan.ensure_built()
    networks = (gan.generator, gan.discriminator)
    original = [network.get_weights() for network in networks]
    references = []
    try:
        fisher = _fisher(gan, num_fisher_samples, rng)
        for _ in range(num_references):
            chosen = rng.permutation(len(negatives))
            if num_references > 1:
                chosen = chosen[: max(1, len(negatives) // 2)]
            adapted = _Adapted(gan, fisher, elasticity)
            adapted.compile(*optimizers())
            adapted.fit(
                negatives[chosen], epochs=adapt_epochs, batch_size=batch_size, verbose=verbose
            )
            trained = gan.generator.trainable_variables
            references.append([np.array(ops.convert_to_numpy(v)) for v in trained])
            _restore(networks, original)
    except BaseException:
        _restore(networks, original)
        raise
    model = RepulsionGAN(gan, references, kind=kind, factor=factor, alpha=alpha)
    model.compile(*optimizers())
    model.fit(positives, epochs=unlearn_epochs, batch_size=batch_size, verbose=verbose)
    return model


class _Adapted(GAN):
    """The GAN with a generator that is held near its first weights, each by its importance."""

    def __init__(self, gan, importance, elasticity):
        arguments = {k: v for k, v in gan.get_config().items() if k not in ("name", "dtype")}
        networks = {name: getattr(gan, name) for name in ("generator", "discriminator")}
        super().__init__(**{**arguments, **networks})
        self._importance = [elasticity * f for f in importance]
        self._first = [
            np.array(ops.convert_to_numpy(v)) for v in self.generator.trainable_variables
        ]

    def generator_objective(self, x, y, training):
        loss, values = super().generator_objective(x, y, training)
        weights = [v.value for v in self.generator.trainable_variables]
        pulls = [
            ops.sum(ops.cast(f, w.dtype) * ops.square(w - ops.cast(first, w.dtype)))
            for w, f, first in zip(weights, self._importance, self._first)
        ]
        return loss + 0.5 * sum(pulls), values


def _fisher(gan, count, rng):
    """Mean squares of the slopes of the discriminator's score of one generated sample in each weight."""
    variables = gan.generator.trainable_variables

    def score(weights, noise):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
            return ops.sum(gan.discriminator(gan.generator(noise, training=False), training=False))

    slopes = autodiff.backend.compiled(autodiff.grad(score))
    weights = [autodiff.backend.read(v) for v in variables]
    totals = [np.zeros(v.shape) for v in variables]
    for noise in rng.normal(size=(count, 1, gan.latent_dim)).astype("float32"):
        gradients = slopes(weights, ops.convert_to_tensor(noise))
        for total, gradient in zip(totals, gradients):
            total += np.square(ops.convert_to_numpy(gradient), dtype="float64")
    return [(total / count).astype("float32") for total in totals]


def _restore(networks, weights):
    for network, values in zip(networks, weights):
        network.set_weights(values)
