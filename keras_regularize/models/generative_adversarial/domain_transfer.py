"""Transfer of pictures to another domain without pairs."""

from typing import Any

import keras
from keras import ops

from keras_regularize.losses.domain_transfer import (
    domain_transfer_discriminator_loss,
    domain_transfer_generator_loss,
)
from keras_regularize.models.generative_adversarial._inputs import check_alike, check_samples
from keras_regularize.models.generative_adversarial.adversarial_model import AdversarialModel
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class DomainTransferNetwork(AdversarialModel):
    r"""Draws a picture of one domain in the manner of another, from pictures of both that are no pairs.

    A feature extractor $f$, trained on the source domain and left as it is, says what is on a picture, and $G = g
    \circ f$ draws it. Discriminator and generator minimize `kr.generative.domain_transfer_discriminator_loss` and
    `kr.generative.domain_transfer_generator_loss`: a picture of the target domain is drawn as it is, one of the
    source domain keeps its features, and a discriminator of three classes takes both for pictures of the target
    domain. Features are differentiated through $f$.

    `fit(source, target)` takes pictures of both domains, as many of each; their order means nothing. `predict(x)`
    is $G(x)$.

    Args:
        feature_extractor: $f$, a model of pictures of either domain. It is not trained.
        generator: $g$, a model of features.
        discriminator: A model of pictures of the target domain, with three logits.
        constancy_weight: $\alpha \ge 0$.
        identity_weight: $\beta \ge 0$.
        total_variation_weight: $\gamma \ge 0$.
        feature_distance: `"mse"` or `"cosine"`.
        seed: Seed of the random generators.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: pictures of either domain. Output: pictures of the target domain.

    Raises:
        ValueError: If an argument is out of range, pictures are missing or no floating tensor, or those of the
            target domain have another shape than what is generated.

    Cost: four passes of the generator, five of the discriminator and five of the feature extractor, of which the
    step of the generator differentiates two, two and one.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    dense, flat = keras.layers.Dense, keras.layers.Flatten
    features = keras.Sequential([keras.Input((8, 8, 1)), flat(), dense(10, "relu")])
    generator = keras.Sequential([keras.Input((10,)), dense(64), keras.layers.Reshape((8, 8, 1))])
    discriminator = keras.Sequential([keras.Input((8, 8, 1)), flat(), dense(3)])
    model = kr.models.DomainTransferNetwork(features, generator, discriminator)
    model.compile("adam", "adam")
    source, target = np.random.default_rng(0).random((2, 16, 8, 8, 1)).astype("float32")
    model.fit(source, target, verbose=0)
    drawn = model.predict(source, verbose=0)
    ```

    Reference: Yaniv Taigman, Adam Polyak and Lior Wolf, *Unsupervised Cross-Domain Image Generation*, ICLR 2017,
    arXiv:1611.02200. There is no official code; a known port replaces the three classes by two.
    """

    def __init__(
        self,
        feature_extractor: keras.Model,
        generator: keras.Model,
        discriminator: keras.Model,
        constancy_weight: float = 15.0,
        identity_weight: float = 15.0,
        total_variation_weight: float = 0.0,
        feature_distance: str = "mse",
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(feature_extractor, keras.Model):
            raise ValueError(
                f"`feature_extractor` must be a `keras.Model`. Received: {feature_extractor!r}"
            )
        super().__init__(generator, discriminator, seed=seed, **kwargs)
        self.feature_extractor = feature_extractor
        self.constancy_weight = check_number("constancy_weight", constancy_weight, minimum=0)
        self.identity_weight = check_number("identity_weight", identity_weight, minimum=0)
        self.total_variation_weight = check_number(
            "total_variation_weight", total_variation_weight, minimum=0
        )
        self.feature_distance = check_choice(
            "feature_distance", feature_distance, ("mse", "cosine")
        )

    def symbolic_inputs(self) -> Any:
        (given,) = self.feature_extractor.inputs
        return keras.Input(given.shape[1:], dtype=given.dtype)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features = self.feature_extractor(inputs, training=False)
        return self.generator(features, training=training)

    def check_batch(self, x: Any, y: Any) -> None:
        check_samples(self, "source", x)
        check_samples(self, "target", y)

    def discriminator_objective(self, x, y, training):
        drawn = [ops.stop_gradient(self(pictures, training=training)) for pictures in (x, y)]
        check_alike(y, drawn[0])
        logits = [self.discriminator(pictures, training=training) for pictures in (*drawn, y)]
        return domain_transfer_discriminator_loss(*logits), {}

    def generator_objective(self, x, y, training):
        features = self.feature_extractor(x, training=False)
        from_source = self.generator(features, training=training)
        from_target = self(y, training=training)
        loss = domain_transfer_generator_loss(
            self.discriminator(from_source, training=training),
            self.discriminator(from_target, training=training),
            features,
            self.feature_extractor(from_source, training=False),
            y,
            from_target,
            from_source,
            self.constancy_weight,
            self.identity_weight,
            self.total_variation_weight,
            self.feature_distance,
        )
        return loss, {}
