"""A penalty on the Jacobian of a part of a model."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.masks import keras_mask, with_mask
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class JacobianPenalty(Configured, keras.layers.Wrapper):
    r"""Wraps a layer or model, and penalizes in training how much its outputs change with its inputs.

    $$\frac{\lambda}{2}\, \frac1B \sum_i \|J_f(x_i)\|_F^2 \approx
      \frac{\lambda}{2 \sigma^2}\, \frac1B \sum_i \|f(x_i + \epsilon_i) - f(x_i)\|^2,
      \qquad \epsilon_i \sim N(0, \sigma^2 I)$$

    The estimate is exact in expectation for linear maps and, for others, of a map smoothed over $\sigma$. Both
    evaluations are those of inference, so that neither dropout nor batch statistics differ between them. The
    gradient flows to the weights and to the inputs.

    Two wrapped layers one after another, each with the same factor, penalize the *nuclear norm* of the Jacobian of
    the whole, the sum of its singular values: over all ways to write a map as $g \circ h$,
    $\inf \frac12 (\|J_g\|_F^2 + \|J_h\|_F^2) = \|J_{g \circ h}\|_*$. So they make it locally of low rank. See
    `kr.models.JacobianNuclearNorm`.

    Args:
        layer: The layer or model $f$, of one floating input and one output.
        factor: $\lambda \ge 0$. With `"mse"`, a mean over $D$ features, $\lambda = 2 \eta / D$ is the paper's
            weight $\eta$ beside half a sum of squares.
        stddev: $\sigma > 0$, in units of the inputs. Below 1e-3 rounding shows.
        samples: Number of draws per step, at least 1.
        seed: Integer seed of the draws, or None.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Input and output: as of the layer. Positions that are masked in the output do not count.

    Raises:
        ValueError: If an argument is out of range, or `layer` is no layer.

    Cost: in training one pass of the layer more for its inputs, and one for each draw.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    h, g = keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(4)
    pieces = [kr.layers.JacobianPenalty(piece, factor=0.01) for piece in (h, g)]
    model = keras.Sequential([keras.Input((4,)), *pieces])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 4)), verbose=0)
    ```

    Reference: Christopher Scarvelis and Justin Solomon, *Nuclear Norm Regularization for Deep Learning*, NeurIPS
    2024, arXiv:2405.14544.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        factor: float = 0.01,
        stddev: float = 0.05,
        samples: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                f"`JacobianPenalty` wraps a Keras layer. Received: layer={layer!r} of type "
                f"{type(layer).__name__}"
            )
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.factor = check_number("factor", factor, minimum=0)
        self.stddev = check_number("stddev", stddev, above=0)
        self.samples = check_integer("samples", samples, minimum=1)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = layer.supports_masking

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self._run(inputs, training)
        if training and self.factor > 0:
            add_float_loss(self, self._penalty(inputs))
        return outputs

    def _run(self, inputs, training):
        if "training" in inspect.signature(self.layer.call).parameters:
            return self.layer(inputs, training=training)
        return self.layer(inputs)

    def _penalty(self, inputs):
        x, size, mask = upcast(inputs), self.samples, keras_mask(inputs)
        rows, *shape = ops.shape(x)
        noise = keras.random.normal((size, rows, *shape), dtype=x.dtype, seed=self.seed_generator)
        moved = ops.reshape(x + self.stddev * noise, (size * rows, *shape))
        points = ops.concatenate([x, moved], axis=0)
        if mask is not None:
            points = with_mask(points, ops.concatenate([mask] * (size + 1), axis=0))
        outputs = self._run(points, False)
        mask, outputs = keras_mask(outputs), upcast(outputs)
        if mask is not None:  # What is masked does not count.
            mask = ops.reshape(
                mask, ops.shape(mask) + (1,) * (len(outputs.shape) - len(mask.shape))
            )
            outputs = ops.where(mask, outputs, 0.0)
        outputs = ops.reshape(outputs, (size + 1, rows, *ops.shape(outputs)[1:]))
        changes = (outputs[1:] - outputs[:1]) / self.stddev
        count = ops.cast(ops.maximum(size * rows, 1), changes.dtype)
        return 0.5 * self.factor * ops.sum(changes * changes) / count

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return self.layer.compute_output_spec(inputs)
