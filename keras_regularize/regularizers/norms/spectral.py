"""Spectral regularization: the largest singular value of every weight near a target."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_integer, check_number
from keras_regularize.numerics import safe_abs, upcast
from keras_regularize.regularizers._gram import smaller_gram
from keras_regularize.utils.groups import filter_matrix


@export
class Spectral(keras.regularizers.Regularizer):
    r"""Keeps the largest singular value of a weight near a target, so that a network goes on learning.

    $$\lambda \left(\sigma_1(M)^k - t\right)^2$$

    with $M$ the kernel as a matrix `(fan_in, filters)`. Networks that are trained on one task after another
    lose the ability to learn, as singular values drift apart from their initial spread around one. Unlike L2
    this does not shrink the weights, and only one direction is touched at a time. Use target 1 on kernels,
    target 0 on biases (a vector's singular value is its norm), and `diagonal=True` with target 1 on the
    scales of normalization layers. With target 0 and power 1 it is the spectral norm penalty $\sigma_1^2$.

    The singular vectors come from an eigendecomposition that is not differentiated; the gradient is that of
    the Rayleigh quotient at the live weights, $2\lambda k\,(\sigma_1^k - t)\,\sigma_1^{k-1}\,u v^\top$. The paper
    takes one step of power iteration per update and keeps the vectors between updates; a regularizer has no
    state, so the vectors are exact, or found anew with `iterations`.

    Args:
        factor: $\lambda \ge 0$.
        target: $t \ge 0$, of $\sigma_1^k$.
        power: $k > 0$; 2 in the paper.
        diagonal: Whether the variable is the diagonal of a matrix, whose singular value is $\max_i |w_i|$.
        iterations: If set, that many steps of power iteration from a fixed start in place of the
            eigendecomposition, for large kernels. They underestimate $\sigma_1$ if it is little above the
            next one.

    Input: a kernel `(…, in, out)` with the filters on the last axis, or a vector. Output: a scalar in at
    least float32.

    Raises:
        ValueError: If an argument is out of range.

    Cost: one matrix product and the eigendecomposition of the smaller Gram matrix, of the order of
    `min(fan_in, filters)³`; with `iterations`, two products of the kernel and a vector for each. On TensorFlow XLA
    takes some 90 times as long as JAX over an eigendecomposition of size 512: set `iterations` there.

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
        check_number("factor", factor, minimum=0)
        check_number("target", target, minimum=0)
        check_number("power", power, minimum=0)
        if power == 0:
            raise ValueError("`power` must be positive. Received: power=0")
        if iterations is not None:
            check_integer("iterations", iterations, minimum=1)
        self.factor = float(factor)
        self.target = float(target)
        self.power = float(power)
        self.diagonal = bool(diagonal)
        self.iterations = None if iterations is None else int(iterations)

    def __call__(self, x: Any) -> Any:
        square = self._squared_norm(x)
        if self.power != 2:
            positive = square > 0  # Powers below 2 have no slope at a zero weight.
            base = ops.where(positive, square, 1.0)
            square = ops.where(positive, ops.power(base, self.power / 2), 0.0)
        return self.factor * ops.square(square - self.target)

    def _squared_norm(self, x):
        if self.diagonal:
            return ops.square(ops.max(safe_abs(upcast(x))))
        matrix = filter_matrix(x)
        if matrix.shape[0] < matrix.shape[1]:
            matrix = ops.transpose(matrix)
        fixed = ops.stop_gradient(matrix)
        if self.iterations is None:
            direction = ops.linalg.eigh(smaller_gram(fixed))[1][:, -1:]
        else:
            direction = _power_iteration(fixed, self.iterations)
        return ops.sum(ops.square(ops.matmul(matrix, ops.stop_gradient(direction))))

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "target": self.target,
            "power": self.power,
            "diagonal": self.diagonal,
            "iterations": self.iterations,
        }


def _power_iteration(matrix, iterations):
    """An approximate top right singular vector `(columns, 1)` of a tall matrix."""
    transposed = ops.transpose(matrix)

    def step(_, direction):
        moved = ops.matmul(transposed, ops.matmul(matrix, direction))
        # By the largest entry first: the square of a tiny or huge vector is out of range.
        largest = ops.max(ops.abs(moved))
        moved = moved / ops.where(largest > 0, largest, 1.0)
        norm = ops.sqrt(ops.sum(moved * moved))
        return ops.where(largest > 0, moved / ops.where(norm > 0, norm, 1.0), direction)

    start = ops.convert_to_tensor(_start(matrix.shape[1]), dtype=matrix.dtype)
    return ops.fori_loop(0, iterations, step, start)


@functools.lru_cache(maxsize=64)
def _start(size):
    vector = np.random.default_rng(0).standard_normal((size, 1))
    return (vector / np.linalg.norm(vector)).astype("float32")
