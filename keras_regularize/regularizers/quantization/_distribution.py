"""How far the distribution of weights is from one that is easy to quantize."""

import math
from typing import Any

from keras import ops

from keras_regularize.numerics import mean, safe_sqrt, upcast


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
