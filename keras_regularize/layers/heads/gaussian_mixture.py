"""The head of a mixture density network."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class GaussianMixture(Configured, keras.layers.Layer):
    r"""Gives out the parameters of a mixture of Gaussians, as the head of a network for regression.

    A dense layer of three outputs per component, logits $a$, means $\mu$ and raw scales $r$ one after the other,

    $$p(y) = \sum_k w_k\, \mathcal N(y;\, \mu_k, \sigma_k^2), \qquad w = \operatorname{softmax}(a), \quad
      \sigma_k = \operatorname{softplus}(r_k) + 10^{-6},$$

    with biases that spread the means evenly from -1 to 1 before training: components that start alike learn alike.
    So scale the targets to a mean of 0 and a standard deviation of about 1.

    Train it with `losses.GaussianMixtureNegativeLogLikelihood` or `losses.GaussianMixtureCRPS`; probabilities of
    values are `losses.gaussian_mixture_cdf`. Calibration takes its predictions as they are:
    `losses.ProbabilisticCalibration`, `metrics.ProbabilisticCalibrationError`, `analysis.QuantileRecalibration`.
    A single Gaussian needs no layer of its own: its losses take a `Dense(2)`.

    Args:
        components: Number of components, at least 1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `(batch, …, features)`. Output: `(batch, …, 3 * components)`.

    Raises:
        ValueError: If `components` is no positive integer.

    Cost: that of its dense layer.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(16, "relu"), kr.layers.GaussianMixture(3)])
    model.compile("adam", loss=kr.losses.GaussianMixtureNegativeLogLikelihood())
    model.fit(x, y, verbose=0)
    logits, means, raw = np.split(model.predict(x, verbose=0), 3, axis=-1)
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = (weights * means).sum(axis=-1)
    ```

    Reference: Christopher M. Bishop, *Mixture Density Networks*, 1994.
    """

    def __init__(self, components: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.components = check_integer("components", components, minimum=1)
        self.dense = keras.layers.Dense(
            3 * self.components,
            bias_initializer=self._spread_means,
            dtype=self.dtype_policy,
            name="parameters",
        )

    def _spread_means(self, shape, dtype=None):
        bias = np.zeros((3, self.components))
        if self.components > 1:
            bias[1] = np.linspace(-1.0, 1.0, self.components)
        return ops.convert_to_tensor(bias.reshape(shape), dtype=dtype)

    def build(self, input_shape: Any) -> None:
        self.dense.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], 3 * self.components)
