"""A generative adversarial network that is driven away from others."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_regularize.models.generative_adversarial.gan import GAN
from keras_regularize.registration import export
from keras_regularize.regularizers.anchors.repulsion import KINDS, parameter_repulsion
from keras_regularize.utils.variables import weight_like
from keras_regularize.validation import check_choice, check_number


@export
class RepulsionGAN(GAN):
    r"""Trains a GAN on, with a generator that keeps away from given weights: those that know what is to be
    forgotten.

    The loss of the generator is that of the `GAN` and $\lambda$ times `kr.generative.parameter_repulsion` from the
    references. They are the weights of copies adapted to undesired samples; training goes on from the original
    weights, on desired samples. `kr.generative.adapt_then_unlearn` does all of it.

    Args:
        gan: The `GAN` to train; its networks are this model's.
        reference_weights: A list of one or more lists of arrays, each of the shapes of the generator's trainable
            weights, in their order.
        kind: `"exponential"`, `"inverse"` or `"negative"`; the last has no bound.
        factor: $\lambda \ge 0$.
        alpha: $\alpha > 0$ of `"exponential"`, or `"auto"` for one over the present distance from the references.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: noise `(batch, latent_dim)`. Output: samples.

    Raises:
        ValueError: If an argument is out of range, the references do not fit, or `alpha="auto"` starts at them.

    Cost: that of the `GAN`; memory for the references.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    gan = kr.models.GAN(generator, discriminator, latent_dim=2)
    away = [w + 1.0 for w in generator.get_weights()]
    model = kr.models.RepulsionGAN(gan, [away], alpha="auto")
    model.compile("adam", "adam")
    model.fit(np.ones((8, 2), "float32"), verbose=0)
    ```

    Reference: Piyush Tiwary, Atri Guha, Subhodip Panda and Prathosh A. P., *Adapt then Unlearn: Exploring
    Parameter Space Semantics for Unlearning in Generative Adversarial Networks*, 2023, arXiv:2309.14054.
    """

    values: Sequence[str] = ("penalty", "repulsion")

    def __init__(
        self,
        gan: GAN,
        reference_weights: Sequence[Sequence[Any]],
        kind: str = "exponential",
        factor: float = 1.0,
        alpha: float | str = 1.0,
        **kwargs: Any,
    ):
        if not isinstance(gan, GAN):
            raise ValueError(f"`gan` must be a `kr.models.GAN`. Received: gan={gan!r}")
        gan.ensure_built()
        super().__init__(
            gan.generator,
            gan.discriminator,
            gan.latent_dim,
            gan.initial_loss,
            gan.penalty,
            gan.penalty_factor,
            gan.penalty_every,
            gan.discriminator_steps,
            gan.seed,
            **kwargs,
        )
        self.gan = gan
        self.kind = check_choice("kind", kind, KINDS)
        self.factor = check_number("factor", factor, minimum=0)
        variables = gan.generator.trainable_variables
        present = [np.asarray(keras.ops.convert_to_numpy(v)) for v in variables]
        # Measures the distance, and the references with it.
        distance = -float(parameter_repulsion(present, reference_weights, "negative"))
        if alpha == "auto":
            if not distance:
                raise ValueError("`alpha='auto'` must not start at the references.")
            alpha = 1.0 / distance
        self.alpha = check_number("alpha", alpha, above=0)
        self._references = []
        for i, reference in enumerate(reference_weights):
            for j, (variable, value) in enumerate(zip(variables, reference)):
                kept = weight_like(self, variable, trainable=False, name=f"reference_{i}_{j}")
                kept.assign(value)
                self._references.append(kept)

    def get_config(self) -> dict[str, Any]:
        own = {"kind": self.kind, "factor": self.factor, "alpha": self.alpha}
        base = {"name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
        count = len(self._references) // len(self.generator.trainable_variables)
        gan = keras.saving.serialize_keras_object(self.gan)
        return {**base, **own, "gan": gan, "reference_weights": count}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "RepulsionGAN":
        config = dict(config)
        gan = keras.saving.deserialize_keras_object(config.pop("gan"), custom_objects)
        # The arrays are in the file of the weights.
        count = config.pop("reference_weights")
        variables = gan.generator.trainable_variables
        references = [[np.zeros(v.shape, "float32") for v in variables] for _ in range(count)]
        return cls(gan, references, **config)

    def generator_objective(self, x, y, training):
        loss, values = super().generator_objective(x, y, training)
        variables = self.generator.trainable_variables
        weights = [v.value for v in variables]
        stored = [v.value for v in self._references]
        references = [stored[i : i + len(weights)] for i in range(0, len(stored), len(weights))]
        penalty = parameter_repulsion(weights, references, self.kind, self.alpha)
        return loss + self.factor * penalty, {**values, "repulsion": penalty}
