"""Weights whose distribution suits quantization: flat and symmetric."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import mean, safe_sqrt, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class WeightDistribution(Configured, keras.regularizers.Regularizer):
    r"""Flattens the distribution of a kernel's weights, so that few bits represent them well.

    $$\lambda_K (K - k)^2 + \lambda_S (S - s)^2,\qquad K = \frac1n \sum_i z_i^4,\quad S = \frac1n \sum_i z_i^3,
    \quad z_i = \frac{w_i - \bar w}{\sigma},$$

    with the kurtosis $K$ and skewness $S$ of all weights of the tensor, and $\sigma$ the standard deviation
    with $n-1$ in the denominator. A kurtosis of 1.8 is that of a uniform distribution, whose quantization
    levels are used evenly; a skewness of 0 suits symmetric levels. Shift and scale of the weights are free.
    With `skewness_factor=0` it is the kurtosis regularization KURE. Weights that are all equal count with
    $K = S = 0$ and get no gradient.

    The authors take the mean over the kernels of a network but for the first layer: divide the factors by the
    number of layers.

    Args:
        kurtosis_factor: $\lambda_K \ge 0$.
        skewness_factor: $\lambda_S \ge 0$.
        kurtosis_target: $k$.
        skewness_target: $s$.

    Input: a weight of any shape. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is not a number or a factor is negative.

    Cost: a few elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(16, kernel_regularizer=kr.regularizers.WeightDistribution())
    ```

    Reference: Ke Xu, Lei Han, Ye Tian, Shangshang Yang and Xingyi Zhang, *EQ-Net: Elastic Quantization Neural
    Networks*, ICCV 2023, arXiv:2308.07650; kurtosis alone: Moran Shkolnik and others, *Robust Quantization: One
    Model to Rule Them All*, NeurIPS 2020, arXiv:2002.07686.
    """

    def __init__(
        self,
        kurtosis_factor: float = 0.015,
        skewness_factor: float = 1.0,
        kurtosis_target: float = 1.8,
        skewness_target: float = 0.0,
    ):
        self.kurtosis_factor = check_number("kurtosis_factor", kurtosis_factor, minimum=0)
        self.skewness_factor = check_number("skewness_factor", skewness_factor, minimum=0)
        self.kurtosis_target = check_number("kurtosis_target", kurtosis_target)
        self.skewness_target = check_number("skewness_target", skewness_target)

    def __call__(self, x: Any) -> Any:
        return weight_distribution(
            x,
            self.kurtosis_factor,
            self.skewness_factor,
            self.kurtosis_target,
            self.skewness_target,
        )


def weight_distribution(
    w: Any,
    kurtosis_factor: float = 0.015,
    skewness_factor: float = 1.0,
    kurtosis_target: float = 1.8,
    skewness_target: float = 0.0,
) -> Any:
    r"""$\lambda_K (K - K_0)^2 + \lambda_S (S - S_0)^2$ of the fourth and third moment of all entries together.

    Entries are standardized by their unbiased standard deviation; where that is 0 the moments are 0. A
    uniform distribution has the kurtosis 1.8.
    """
    w = upcast(w)
    count = math.prod(w.shape)
    centred = w - mean(w)
    # The moments do not depend on the scale, squares of tiny or huge weights do.
    largest = ops.stop_gradient(ops.max(ops.abs(centred)))
    centred = centred / ops.where(largest > 0, largest, 1.0)
    deviation = safe_sqrt(ops.sum(centred * centred) / max(count - 1, 1))
    z = centred / ops.where(deviation > 0, deviation, 1.0)
    squares = z * z
    kurtosis, skewness = mean(squares * squares), mean(squares * z)
    return kurtosis_factor * ops.square(kurtosis - kurtosis_target) + skewness_factor * ops.square(
        skewness - skewness_target
    )
