"""The contractive autoencoder."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.models.autoencoders._inputs import check_floating_inputs
from keras_regularize.models.autoencoders.jacobians import flat, jacobian
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class ContractiveAutoencoder(RegularizedModel):
    r"""Makes what an autoencoder reconstructs change little with its inputs, but where the data make it.

    $$L + \lambda\,\frac1B\sum_i \big\|J_f(x_i)\big\|_F^2, \qquad J_f = \frac{\partial f}{\partial x}$$

    with $L$ the compiled loss, such as mean squared error in `fit(x, x)`, and $f$ the whole reconstruction or,
    for `target="encoder"`, the code: the contractive autoencoder in the narrow sense. Reconstruction wants to keep
    every direction, the penalty none; those in which the data vary win. What is left is a map that moves a point
    towards the data, $f(x) \approx x + \sigma^2\, \nabla \log p(x)$ for a penalty of $\sigma^2 \|J_f\|_F^2$
    beside the sum of squared errors: `kr.analysis.autoencoder_score` reads the score of the density off it. Keras'
    mean squared error is that sum divided by the number $d$ of features, so that $\lambda = \sigma^2 / d$.

    By `method="exact"` the Jacobian is computed; by `"noise"` its norm is estimated,
    $\|f(x + \epsilon) - f(x)\|^2 / \sigma^2$ for normal $\epsilon$ of deviation $\sigma$, once a step.

    Args:
        model: The autoencoder to train, or another wrapper; of one floating input and one output.
        factor: Weight $\lambda$ of the penalty, at least 0; or a schedule.
        target: `"reconstruction"`, the output of the model, or `"encoder"`, that of `layer`.
        method: `"exact"` or `"noise"`.
        stddev: $\sigma > 0$ of `"noise"`, in units of the inputs. Below 1e-3 rounding shows.
        layer: Layer, or its name, that gives out the code of `target="encoder"`. By default the last of the first
            half of the layers with weights.
        seed: Seed of the noise.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, there is not one floating input, or the layer is not found.

    Cost: one forward-backward pass. `"exact"`: a double backward pass over as many copies of the batch as $f$ has
    outputs, which is for some hundred of them at most. `"noise"`: one pass more, two for `"encoder"`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "tanh"), keras.layers.Dense(4)])
    model = kr.models.ContractiveAutoencoder(net, factor=0.01)
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, x, verbose=0)
    ```

    Reference: Guillaume Alain and Yoshua Bengio, *What Regularized Auto-Encoders Learn from the Data Generating
    Distribution*, JMLR 2014, arXiv:1211.4246. The penalty of the encoder: Rifai, Vincent, Muller, Glorot and
    Bengio, *Contractive Auto-Encoders: Explicit Invariance During Feature Extraction*, ICML 2011.
    """

    def __init__(
        self,
        model: keras.Model,
        factor: Any = 0.1,
        target: str = "reconstruction",
        method: str = "exact",
        stddev: float = 0.1,
        layer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.target = check_choice("target", target, ("reconstruction", "encoder"))
        self.method = check_choice("method", method, ("exact", "noise"))
        self.double_backward = method == "exact"
        self.stddev = check_number("stddev", stddev, above=0)
        self.layer = layer.name if isinstance(layer, keras.layers.Layer) else layer
        if self.layer is not None and target != "encoder":
            raise ValueError(
                f"`layer` is for `target='encoder'`. Received: layer={self.layer!r}, target={target!r}"
            )
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def check_data(self, x, y):
        super().check_data(x, y)
        if tree.is_nested(x):
            raise ValueError(
                f"`{type(self).__name__}` needs a model of one input. Received: {type(x).__name__}"
            )
        check_floating_inputs(self, x)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        if self.method == "exact":
            return batch
        x = upcast(batch.x)
        noise = keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seed_generator)
        return batch.add(**{self.key: self.stddev * noise})

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        x, outputs = upcast(batch.x), self._outputs(forward)
        if self.method == "exact":
            changes = flat(jacobian(outputs, x))
        else:
            noise = batch.extra[self.key]
            changes = (flat(outputs(x + noise)) - flat(outputs(batch.x))) / self.stddev
        penalty = forward.sample_mean(ops.sum(changes * changes, axis=-1), batch)
        factor = self.scheduled(self.factor, batch)
        return loss + ops.cast(factor * penalty, loss.dtype), values

    def _outputs(self, forward):
        """What is to change little, as a function of inputs, with the dropout masks of the step."""
        if self.target == "reconstruction":
            return forward.outputs_at
        layer = self._encoder()
        return lambda x: forward.layer_outputs_at(x, [layer])[0][0]

    def _encoder(self):
        if self.layer is not None:
            return self.get_layer(self.layer)
        weighted = [layer for layer in self.innermost.layers if layer.weights]
        if len(weighted) < 2:
            raise ValueError(
                "`target='encoder'` needs `layer`, the one that gives out the code, in a model of "
                f"{len(weighted)} layers with weights. Received: layer=None"
            )
        return weighted[(len(weighted) + 1) // 2 - 1]
