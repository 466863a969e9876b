"""Soft orthogonality: the Gram matrix of the filters is pulled to the identity."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers._gram import minus_identity, smaller_gram
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_number


@export
class SoftOrthogonality(Configured, keras.regularizers.Regularizer):
    r"""Makes filters orthogonal and of unit length by the squared distance of their Gram matrix to $I$.

    $$\lambda\,\lVert M^\top M - I \rVert_F^2\ \text{ if } M \text{ is tall},\qquad
    \lambda\,\lVert M M^\top - I \rVert_F^2\ \text{ if it is wide},$$

    with $M$ the kernel as a matrix `(fan_in, filters)`. All singular values are drawn to 1: signals and
    gradients keep their length, and no two filters learn the same. A kernel with more filters than inputs
    cannot have orthogonal filters; there the rows are made orthonormal, which is the same statement about
    the singular values. A zero kernel is a stationary point.

    `keras.regularizers.OrthogonalRegularizer` is another penalty: the mean |cosine| of pairs of rows or columns,
    which leaves their lengths free.

    Args:
        factor: $\lambda \ge 0$. The penalty sums over all entries of the Gram matrix, so wide layers want
            smaller values. The authors start at 0.1 and lower it during training, and use little weight
            decay with it.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number.

    Cost: two matrix products, `2 · fan_in · filters · min(fan_in, filters)` multiplications, of the smaller
    Gram matrix.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(16, 3, kernel_regularizer=kr.regularizers.SoftOrthogonality(0.01))
    ```

    Reference: Nitin Bansal, Xiaohan Chen and Zhangyang Wang, *Can We Gain More from Orthogonality
    Regularizations in Training Deep CNNs?*, NeurIPS 2018, arXiv:1810.09102.
    """

    def __init__(self, factor: float = 0.01):
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        return self.factor * ops.sum(ops.square(minus_identity(smaller_gram(filter_matrix(x)))))


@export
class DoubleSoftOrthogonality(Configured, keras.regularizers.Regularizer):
    r"""Soft orthogonality of the columns and of the rows of a kernel at once.

    $$\lambda \left(\lVert M^\top M - I \rVert_F^2 + \lVert M M^\top - I \rVert_F^2\right)$$

    with $M$ the kernel as a matrix `(fan_in, filters)`. Both terms depend on the singular values alone and
    differ by the constant $|\mathrm{fan\_in} - \mathrm{filters}|$: the value is
    $\lambda\,(2\,\lVert G - I\rVert_F^2 + |\mathrm{fan\_in} - \mathrm{filters}|)$ with the smaller Gram
    matrix $G$, and that is how it is computed. In other words, its gradient is that of `SoftOrthogonality`
    with twice the factor; the larger Gram matrix is never formed.

    Args:
        factor: $\lambda \ge 0$.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32, not below $\lambda\,|\mathrm{fan\_in} - \mathrm{filters}|$.

    Raises:
        ValueError: If `factor` is not a non-negative number.

    Cost: that of `SoftOrthogonality`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(16, kernel_regularizer=kr.regularizers.DoubleSoftOrthogonality(0.01))
    ```

    Reference: Nitin Bansal, Xiaohan Chen and Zhangyang Wang, *Can We Gain More from Orthogonality
    Regularizations in Training Deep CNNs?*, NeurIPS 2018, arXiv:1810.09102.
    """

    def __init__(self, factor: float = 0.01):
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        matrix = filter_matrix(x)
        rows, columns = matrix.shape
        squares = ops.sum(ops.square(minus_identity(smaller_gram(matrix))))
        return self.factor * (2.0 * squares + abs(rows - columns))
