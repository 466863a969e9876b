"""A hidden layer that stays as it was drawn."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import matmul
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class RandomFeatures(Configured, keras.layers.Layer):
    r"""A dense layer whose weights are drawn once and never trained.

    $$h = \sigma\Big(\frac{s}{\sqrt{k}}\, W^\top x\Big), \qquad W_{ij} \sim N(0, 1),$$

    for $k$ inputs. Several of them under a trained linear layer are the deep random features whose error
    `kr.analysis.deep_random_features_error` and `kr.analysis.ridge_test_error` compute.

    Args:
        units: Number of features, at least 1.
        activation: $\sigma$, as `keras.layers.Dense` takes it.
        scale: $s > 0$, the deviation of the weights.
        seed: Seed of the draw.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `(batch, …, k)`. Output: `(batch, …, units)`.

    Raises:
        ValueError: If an argument is out of range, or the number of inputs is unknown.

    Cost: that of a `Dense` layer, without a gradient for weights.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    features = [kr.layers.RandomFeatures(200, "tanh"), kr.layers.RandomFeatures(100, "tanh")]
    model = keras.Sequential([keras.Input((50,)), *features, keras.layers.Dense(1)])
    ```

    Reference: Dominik Schröder, Hugo Cui, Daniil Dmitriev and Bruno Loureiro, *Deterministic Equivalent and Error
    Universality of Deep Random Features Learning*, ICML 2023, arXiv:2302.00401.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        scale: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.activation = keras.activations.get(activation)
        self.scale = check_number("scale", scale, above=0)
        self.seed = check_integer("seed", seed, optional=True)

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        if width is None:
            raise ValueError(
                f"`RandomFeatures` needs a known last axis. Received: shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            shape=(width, self.units),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            trainable=False,
            name="kernel",
        )

    def call(self, inputs: Any) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        factor = self.scale / math.sqrt(max(kernel.shape[0], 1))
        return self.activation(matmul(inputs, kernel) * factor)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)
