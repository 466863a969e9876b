"""Spectral restricted isometry: the singular value farthest from one."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers._gram import extreme_square
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_number


@export
class SRIP(Configured, keras.regularizers.Regularizer):
    r"""Pulls the singular value of a kernel that is farthest from one towards one.

    $$\lambda\,\sigma_{\max}(G - I)^2 = \lambda \max_i\, (\sigma_i(M)^2 - 1)^2$$

    with the smaller Gram matrix $G$ of the kernel $M$ `(fan_in, filters)`: the restricted isometry constant
    of compressed sensing for vectors of any sparsity. Where `SoftOrthogonality` sums the errors of all
    singular values, this one acts on the largest error alone, so its strength does not grow with the width.

    The singular vector is not differentiated; the gradient is that of the Rayleigh quotient at the live weights.
    With at most 64 inputs or filters it is exact. Beyond, it is the best one in a Krylov space of 64 dimensions:
    the value is then right to float32 where the largest singular value is the farthest from one, and to about
    a thousandth where it is one near zero. A zero kernel is a stationary point.

    The authors' code squares $\sigma$ as here but takes one step of power iteration from a random vector. Three
    of its scripts use the Gram matrix of the fan-in, which for a kernel with more inputs than filters is the
    larger one, whose error cannot vanish; that for wide ResNets uses the smaller one, as here. Its factor is 1e-2
    times 1, 1e-3, 1e-4, 1e-6 and 0 from epochs 0, 20, 50, 70 and 120 on.

    Args:
        factor: $\lambda \ge 0$.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number.

    Cost: up to 64 inputs or filters, an eigendecomposition of that size; else products of the kernel with 128
    vectors and with a matrix of 64 columns: about three products of the kernel with itself at a size of 512, a
    third of one at 4096.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(16, 3, kernel_regularizer=kr.regularizers.SRIP(0.1))
    ```

    Reference: Nitin Bansal, Xiaohan Chen and Zhangyang Wang, *Can We Gain More from Orthogonality
    Regularizations in Training Deep CNNs?*, NeurIPS 2018, arXiv:1810.09102.
    """

    def __init__(self, factor: float = 0.01):
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        return self.factor * ops.square(extreme_square(filter_matrix(x), centre=1.0) - 1.0)
