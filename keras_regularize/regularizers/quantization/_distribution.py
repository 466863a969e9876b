"""How far the distribution of weights is from one that is easy to quantize."""

import math
from typing import Any

from keras import ops

from keras_regularize.numerics import upcast


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
    w = ops.reshape(upcast(w), (-1,))
    centred = w - ops.mean(w)
    size = max(math.prod(w.shape), 2)
    variance = ops.sum(centred * centred) / (size - 1)
    spread = variance > 0
    z = centred * ops.rsqrt(ops.where(spread, variance, 1.0))
    squares = z * z
    kurtosis, skewness = ops.mean(squares * squares), ops.mean(squares * z)
    return kurtosis_factor * ops.square(kurtosis - kurtosis_target) + skewness_factor * ops.square(
        skewness - skewness_target
    )
