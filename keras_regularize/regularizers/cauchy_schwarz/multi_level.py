"""A Cauchy-Schwarz regularizer for sums of binary planes: weights of several bits."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.cauchy_schwarz._gap import gap
from keras_regularize.validation import check_number


@export
class MultiLevelCauchySchwarz(Configured, keras.regularizers.Regularizer):
    r"""Drives bit planes, whose sum is the weight, to $\pm a, \pm 2a, \pm 4a \dots$: weights of $2^B$ levels.

    For a variable $y$ with $B$ planes of $n$ entries on its first axis and $p_b = 4^b$, $b = 0 \dots B-1$,

    $$\lambda \Big( n \sum_b p_b^2\, \sum_{b,i} y_{bi}^4 -
    \big(\sum_b p_b \sum_i y_{bi}^2\big)^2 \Big),$$

    zero if and only if plane $b$ is $\pm 2^b a$ throughout, with one $a$ for all. The sum of the planes, the
    weight to be used, then has $2^B$ evenly spaced values. It is a regularizer for the variable of a layer
    of your own that adds up planes; for one plane it is `BinaryCauchySchwarz` with `axis=None`.

    Args:
        factor: $\lambda \ge 0$. The value is of degree 4 in the entries and grows with the square of their
            number.
        normalize: Whether to divide by the number $B n$ of entries.

    Input: a tensor `(bits, …)` of planes, the least significant first. Output: a scalar in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number, or if it is called on a scalar.

    Cost: a few elementwise passes over the planes.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    class BitDense(keras.layers.Layer):
        def build(self, input_shape):
            self.planes = self.add_weight(
                shape=(2, input_shape[-1], 4),
                regularizer=kr.regularizers.MultiLevelCauchySchwarz(1e-3),
            )

        def call(self, inputs):
            return inputs @ keras.ops.sum(self.planes, axis=0)
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    def __init__(self, factor: float = 1.0, normalize: bool = False):
        self.factor = check_number("factor", factor, minimum=0)
        self.normalize = bool(normalize)

    def __call__(self, x: Any) -> Any:
        planes = upcast(x)
        if not len(planes.shape):
            raise ValueError(
                "`MultiLevelCauchySchwarz` regularizes planes of bits, (bits, …). Received a scalar."
            )
        powers = 4.0 ** np.arange(planes.shape[0]).reshape((-1,) + (1,) * (len(planes.shape) - 1))
        powers = ops.convert_to_tensor(powers, dtype=planes.dtype) * ops.ones_like(planes)
        total = ops.sum(gap(ops.square(planes), powers))
        return self.factor * (total / math.prod(planes.shape) if self.normalize else total)
