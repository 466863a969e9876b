"""Spectral restricted isometry: the singular value farthest from one."""

from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.regularizers._gram import smaller_gram
from keras_regularize.utils.groups import filter_matrix


@export
class SRIP(keras.regularizers.Regularizer):
    r"""Pulls the singular value of a kernel that is farthest from one towards one.

    $$\lambda\,\sigma_{\max}(G - I)^2 = \lambda \max_i\, (\sigma_i(M)^2 - 1)^2$$

    with the smaller Gram matrix $G$ of the kernel $M$ `(fan_in, filters)`: the restricted isometry constant
    of compressed sensing for vectors of any sparsity. Where `SoftOrthogonality` sums the errors of all
    singular values, this one acts on the largest error alone, so its strength does not grow with the width.

    The direction is exact, from an eigendecomposition that is not differentiated; the gradient is that of the
    Rayleigh quotient at the live weights. The authors' code takes one step of power iteration from a random
    vector, and always uses $M M^\top$ or $M^\top M$ of the fan-in, whose error cannot vanish where it is the
    larger one. A zero kernel is a stationary point.

    Args:
        factor: $\lambda \ge 0$. The authors start at 0.1 and lower it during training.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number.

    Cost: one matrix product and the eigendecomposition of the smaller Gram matrix, of the order of
    `min(fan_in, filters)³`; for layers of more than about a thousand filters `SoftOrthogonality` is cheaper.

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
        check_number("factor", factor, minimum=0)
        self.factor = float(factor)

    def __call__(self, x: Any) -> Any:
        matrix = filter_matrix(x)
        if matrix.shape[0] < matrix.shape[1]:
            matrix = ops.transpose(matrix)
        values, vectors = ops.linalg.eigh(ops.stop_gradient(smaller_gram(matrix)))
        # Eigenvalues come in rising order: the farthest from one is the first or the last.
        first = ops.abs(values[0] - 1.0) > ops.abs(values[-1] - 1.0)
        direction = ops.stop_gradient(ops.where(first, vectors[:, 0], vectors[:, -1]))
        stretch = ops.sum(ops.square(ops.matmul(matrix, direction[:, None])))
        return self.factor * ops.square(stretch - 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}
