"""Mutual coherence: the worst pair of filters."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import matmul, safe_abs
from keras_regularize.registration import export
from keras_regularize.regularizers._gram import minus_identity
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_number


@export
class MutualCoherence(Configured, keras.regularizers.Regularizer):
    r"""Lowers the largest product of two filters, or the largest error of a filter's length.

    $$\lambda \max_{i,j} \left| (M^\top M - I)_{ij} \right|$$

    with $M$ the kernel as a matrix `(fan_in, filters)`: its columns, the filters, are the atoms of a
    dictionary, and for filters of unit length this is the coherence of that dictionary. Only the worst pair
    gets a gradient at each step (tied pairs share it), so it takes more steps than `SoftOrthogonality` but
    leaves the other filters alone. More filters than inputs cannot be orthogonal; the coherence of such a
    kernel has a positive lower bound.

    The paper bounds the coherence by a norm of $M^\top M - I$ that it writes $\lVert\cdot\rVert_\infty$; here it
    is the largest entry.

    Args:
        factor: $\lambda \ge 0$.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number.

    Cost: one matrix product, `fan_in · filters²` multiplications.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(16, kernel_regularizer=kr.regularizers.MutualCoherence(0.1))
    ```

    Reference: Nitin Bansal, Xiaohan Chen and Zhangyang Wang, *Can We Gain More from Orthogonality
    Regularizations in Training Deep CNNs?*, NeurIPS 2018, arXiv:1810.09102.
    """

    def __init__(self, factor: float = 0.01):
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        matrix = filter_matrix(x)
        gram = matmul(ops.transpose(matrix), matrix)
        return self.factor * ops.max(safe_abs(minus_identity(gram)))
