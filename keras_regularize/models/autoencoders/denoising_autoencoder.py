"""The denoising autoencoder."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.attacks.points import is_floating
from keras_regularize.models.autoencoders._inputs import check_floating_inputs
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class DenoisingAutoencoder(RegularizedModel):
    r"""Trains an autoencoder to take noise off its inputs, from which it learns where the data are.

    In training the model sees $x + \epsilon$ with $\epsilon \sim N(0, \sigma^2 I)$, and the compiled loss compares
    what it makes of it with the labels, clean inputs in `fit(x, x)`. By squared error the best such model is

    $$r(\tilde x) = E[x \mid \tilde x] = \tilde x + \sigma^2\, \nabla \log p_\sigma(\tilde x)$$

    with $p_\sigma$ the density of the noisy data: `kr.analysis.autoencoder_score` reads that score off. To the
    order $\sigma^2$ it is the `ContractiveAutoencoder`, at the cost of a plain step. It does what a
    `keras.layers.GaussianNoise` in front of the model would do, but leaves the model as it is.

    Args:
        model: The autoencoder to train, or another wrapper.
        stddev: $\sigma \ge 0$, in units of the inputs, all floating ones of which get noise; or a schedule.
        seed: Seed of the noise.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `stddev` is negative, or no input is floating.

    Cost: one forward-backward pass, and a normal number per input.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(4)])
    model = kr.models.DenoisingAutoencoder(net, stddev=0.2)
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, x, verbose=0)
    score = kr.analysis.autoencoder_score(net, x, stddev=0.2)
    ```

    Reference: Guillaume Alain and Yoshua Bengio, *What Regularized Auto-Encoders Learn from the Data Generating
    Distribution*, JMLR 2014, arXiv:1211.4246.
    """

    def __init__(
        self, model: keras.Model, stddev: Any = 0.1, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(model, **kwargs)
        self.stddev = check_number("stddev", stddev, minimum=0, schedule=True)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def check_data(self, x, y):
        super().check_data(x, y)
        check_floating_inputs(self, x)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        stddev = self.scheduled(self.stddev, batch)

        def noisy(leaf):
            if leaf is None or not is_floating(leaf):
                return leaf
            leaf = ops.convert_to_tensor(leaf)
            noise = keras.random.normal(ops.shape(leaf), dtype="float32", seed=self.seed_generator)
            return leaf + ops.cast(stddev * noise, leaf.dtype)

        return batch.replace(x=tree.map_structure(noisy, batch.x))
