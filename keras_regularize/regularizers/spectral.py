"""Spectral regularization: the largest singular value of every weight near a target."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import matmul, upcast
from keras_regularize.registration import export
from keras_regularize.regularizers._gram import extreme_square, start_column, unit_column
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_integer, check_number


@export
class Spectral(Configured, keras.regularizers.Regularizer):
    r"""Keeps the largest singular value of a weight near a target, so that a network goes on learning.

    $$\lambda \left(\sigma_1(M)^k - t\right)^2$$

    with $M$ the kernel as a matrix `(fan_in, filters)`. Networks that are trained on one task after another
    lose the ability to learn, as singular values drift apart from their initial spread around one. Unlike L2
    this does not shrink the weights, and only one direction is touched at a time. Use target 1 on kernels,
    target 0 on biases (a vector's singular value is its norm), and `diagonal=True` with target 1 on the
    scales of normalization layers, with target 0 on their shifts. Those are diagonal matrices, of which each
    entry counts by itself:

    $$\lambda \sum_i \left(|w_i|^k - t\right)^2$$

    With target 0 and power 1 it is the spectral norm penalty $\sigma_1^2$.

    The singular vectors are not differentiated; the gradient is that of the Rayleigh quotient at the live
    weights, $2\lambda k\,(\sigma_1^k - t)\,\sigma_1^{k-1}\,u v^\top$. The paper takes one step of power iteration
    per update and keeps the vectors between updates; a regularizer has no state, so they are found anew. With at
    most 64 inputs or filters they are exact. Beyond, they are the best in a Krylov space of 64 dimensions, right
    to float32 unless the two largest singular values are closer than a thousandth of their size: then a vector
    between those of the two may come out, and $\sigma_1$ is still right to float32. The form of the penalty on
    normalization layers follows a re-implementation.

    Args:
        factor: $\lambda \ge 0$.
        target: $t \ge 0$, of $\sigma_1^k$.
        power: $k > 0$; 2 in the paper.
        diagonal: Whether the variable is the diagonal of a matrix: the scale or shift of a normalization.
        iterations: If set, that many steps of power iteration from a fixed start, cheaper and rougher. They
            underestimate $\sigma_1$ if it is little above the next one.

    Input: a kernel `(…, in, out)` with the filters on the last axis, or a vector. Output: a scalar in at
    least float32.

    Raises:
        ValueError: If an argument is out of range.

    Cost: up to 64 inputs or filters, an eigendecomposition of that size; else products of the kernel with 128
    vectors and with a matrix of 64 columns: about three products of the kernel with itself at a size of 512, a
    third of one at 4096;
    with `iterations`, two products of the kernel and a vector for each.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(
        16,
        kernel_regularizer=kr.regularizers.Spectral(1e-3),
        bias_regularizer=kr.regularizers.Spectral(1e-3, target=0.0),
    )
    ```

    Reference: Alex Lewandowski, Michał Bortkiewicz, Saurabh Kumar, András György, Dale Schuurmans, Mateusz
    Ostaszewski and Marlos C. Machado, *Learning Continually by Spectral Regularization*, ICLR 2025,
    arXiv:2406.06811.
    """

    def __init__(
        self,
        factor: float = 1e-4,
        target: float = 1.0,
        power: float = 2,
        diagonal: bool = False,
        iterations: int | None = None,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.target = check_number("target", target, minimum=0)
        self.power = check_number("power", power, above=0)
        self.diagonal = bool(diagonal)
        self.iterations = check_integer("iterations", iterations, minimum=1, optional=True)

    def __call__(self, x: Any) -> Any:
        if self.diagonal:
            squares = ops.square(upcast(x))
        else:
            squares = self._squared_norm(filter_matrix(x))
        if self.power != 2:
            zero = squares <= 0  # Powers below 2 have no slope at a zero weight.
            base = ops.where(zero, 1.0, squares)
            squares = ops.where(zero, 0.0, ops.power(base, self.power / 2))
        return self.factor * ops.sum(ops.square(squares - self.target))

    def _squared_norm(self, matrix):
        if self.iterations is None:
            return extreme_square(matrix)
        if matrix.shape[0] < matrix.shape[1]:
            matrix = ops.transpose(matrix)
        direction = _power_iteration(ops.stop_gradient(matrix), self.iterations)
        return ops.sum(ops.square(matmul(matrix, ops.stop_gradient(direction))))


def _power_iteration(matrix, iterations):
    """An approximate top right singular vector `(columns, 1)` of a tall matrix."""
    transposed = ops.transpose(matrix)

    def step(_, direction):
        moved = unit_column(matmul(transposed, matmul(matrix, direction)))
        return ops.where(ops.any(moved != 0), moved, direction)

    return ops.fori_loop(0, iterations, step, start_column(matrix))
