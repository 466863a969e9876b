"""A Cauchy-Schwarz regularizer whose zeros are matrices with orthogonal columns of equal length."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers._gram import smaller_gram
from keras_regularize.regularizers.cauchy_schwarz._gap import gap
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_number


@export
class OrthogonalCauchySchwarz(Configured, keras.regularizers.Regularizer):
    r"""Makes filters orthogonal and of equal length, whatever the length: all singular values the same.

    $$\lambda \left(k\, \lVert M^\top M \rVert_F^2 - \lVert M \rVert_F^4\right) =
    \lambda\, k^2 \operatorname{Var}_i \sigma_i(M)^2,\qquad k = \min(\mathrm{fan\_in}, \mathrm{filters})$$

    with $M$ the kernel as a matrix `(fan_in, filters)` and its $k$ singular values. Zero if and only if the
    Gram matrix is a multiple of the identity: columns orthogonal and equally long if $M$ is tall, rows if it
    is wide. `SoftOrthogonality` also fixes the length, to one; this one leaves it to the loss. The authors
    state it for square matrices. One filter costs nothing.

    Args:
        factor: $\lambda \ge 0$. The value is of degree 4 in the weights.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number.

    Cost: two matrix products, those of `SoftOrthogonality`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(16, kernel_regularizer=kr.regularizers.OrthogonalCauchySchwarz(0.1))
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    def __init__(self, factor: float = 1.0):
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        gram = smaller_gram(filter_matrix(x))
        return self.factor * ops.sum(gap(gram, ops.eye(gram.shape[0], dtype=gram.dtype)))
