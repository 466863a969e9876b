"""A Cauchy-Schwarz regularizer whose zeros are the eigenvectors of a matrix."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import matmul, upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.cauchy_schwarz._gap import gap
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_number


@export
class EigenvectorCauchySchwarz(Configured, keras.regularizers.Regularizer):
    r"""Drives every filter to an eigenvector of a given matrix, whichever and of whatever length.

    $$\lambda \sum_f \left(\lVert C w_f \rVert^2 \lVert w_f \rVert^2 - (w_f^\top C w_f)^2\right)$$

    over the columns $w_f$ of the kernel as a matrix `(fan_in, filters)`. Zero if and only if $C w_f$ is a
    multiple of $w_f$; a covariance matrix of the inputs makes the filters principal directions. The zero
    vector costs nothing either: combine with something that keeps filters from vanishing, such as `NormLoss`.

    Args:
        matrix: $C$, a square array of numbers with `fan_in` rows. It is saved in the config: meant for small
            ones.
        factor: $\lambda \ge 0$. The value is of degree 4 in the weights.

    Input: a kernel `(…, in, out)` with the filters on the last axis, or a vector `(fan_in,)`. Output: a
    scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or the number of inputs of a filter is not that of rows of
            the matrix.

    Cost: one matrix product, `fan_in² · filters` multiplications.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(50, 4)) * [3, 2, 1, 1]
    principal = kr.regularizers.EigenvectorCauchySchwarz(np.cov(x.T), factor=0.1)
    layer = keras.layers.Dense(2, kernel_regularizer=principal)
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    def __init__(self, matrix: Any, factor: float = 1.0):
        self.matrix = np.asarray(matrix, "float64")
        if self.matrix.ndim != 2 or self.matrix.shape[0] != self.matrix.shape[1]:
            raise ValueError(
                f"`matrix` must be a square array. Received: matrix of shape {self.matrix.shape}"
            )
        if not np.isfinite(self.matrix).all():
            raise ValueError("`matrix` must be finite. Received: entries that are infinite or NaN")
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        weight = upcast(x)
        columns = weight[:, None] if len(weight.shape) == 1 else filter_matrix(weight)
        if columns.shape[0] != len(self.matrix):
            raise ValueError(
                f"`matrix` must have a row per input of a filter. Received: matrix of shape "
                f"{self.matrix.shape} for a weight of shape {tuple(weight.shape)}"
            )
        matrix = ops.convert_to_tensor(self.matrix, dtype=columns.dtype)
        return self.factor * ops.sum(gap(matmul(matrix, columns), columns, -1))
