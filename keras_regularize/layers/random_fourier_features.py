"""Random features whose inner products are a Gaussian kernel."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import inverse_softplus, matmul, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class RandomFourierFeatures(Configured, keras.layers.Layer):
    r"""Random Fourier features: a linear layer on them is a Gaussian process with a Gaussian kernel.

    $$\phi(x) = s \sqrt{\frac2D}\, \cos\Big(\frac{W^\top x}{\ell} + b\Big),\qquad
    \phi(x)^\top \phi(x') \approx s^2 e^{-\|x - x'\|^2 / (2 \ell^2)}$$

    with $W \sim N(0, 1)$ and $b$ uniform on a circle, drawn once and never trained. The length $\ell$ and the
    scale $s$ can be learned, as softplus of a weight.

    Args:
        units: $D$, at least 1; the error of the kernel falls like $1 / \sqrt D$.
        lengthscale: First $\ell$, above 0, in units of the inputs.
        outputscale: First $s$, above 0.
        trainable_scales: Whether $\ell$ and $s$ are trained.
        seed: Seed of the draws.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Input: `(batch, …, features)`. Output: `(batch, …, units)`.

    Raises:
        ValueError: If an argument is out of range.

    Cost: that of a `Dense` layer and a cosine.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    features = kr.layers.RandomFourierFeatures(256, lengthscale=1.0)
    model = keras.Sequential([keras.Input((3,)), features, keras.layers.Dense(1)])
    ```

    Reference: Ali Rahimi and Benjamin Recht, *Random Features for Large-Scale Kernel Machines*, NIPS 2007.
    """

    def __init__(
        self,
        units: int,
        lengthscale: float = 20.0,
        outputscale: float = 1.0,
        trainable_scales: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.lengthscale = check_number("lengthscale", lengthscale, above=0)
        self.outputscale = check_number("outputscale", outputscale, above=0)
        self.trainable_scales = bool(trainable_scales)
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        generator = keras.random.SeedGenerator(self.seed)
        self.directions = self.add_weight(
            shape=(input_shape[-1], self.units),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=generator),
            trainable=False,
            name="directions",
        )
        self.phases = self.add_weight(
            shape=(self.units,),
            initializer=keras.initializers.RandomUniform(0.0, 2.0 * math.pi, seed=generator),
            trainable=False,
            name="phases",
        )
        self.raw_lengthscale = self._scale("raw_lengthscale", self.lengthscale)
        self.raw_outputscale = self._scale("raw_outputscale", self.outputscale)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        x = ops.convert_to_tensor(inputs)
        length = ops.softplus(upcast(ops.convert_to_tensor(self.raw_lengthscale)))
        scale = ops.softplus(upcast(ops.convert_to_tensor(self.raw_outputscale)))
        angles = upcast(matmul(x, ops.cast(self.directions, x.dtype)))
        angles = angles / ops.cast(length, angles.dtype) + ops.cast(self.phases, angles.dtype)
        factor = ops.cast(scale, angles.dtype) * math.sqrt(2.0 / self.units)
        return ops.cast(factor * ops.cos(angles), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def _scale(self, name, value):
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(inverse_softplus(value)),
            trainable=self.trainable_scales,
            autocast=False,
            name=name,
        )
