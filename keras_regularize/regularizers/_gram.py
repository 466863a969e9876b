"""Gram matrices of kernels and their extreme eigenvectors."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.numerics import matmul

# Dimensions of the subspace in which singular vectors are found; XLA takes long over larger eigendecompositions.
_SUBSPACE = 64


def smaller_gram(matrix: Any) -> Any:
    """`M'M` of tall matrices `(…, rows, columns)`, `MM'` of wide ones.

    The larger one has the same eigenvalues and zeros besides, so it can never be the identity.
    """
    rows, columns = matrix.shape[-2:]
    transposed = ops.swapaxes(matrix, -1, -2)
    return matmul(matrix, transposed) if rows < columns else matmul(transposed, matrix)


def minus_identity(gram: Any) -> Any:
    """How far Gram matrices `(…, n, n)` are from the identity, entry by entry."""
    return gram - ops.eye(gram.shape[-1], dtype=gram.dtype)


def extreme_square(matrix: Any, centre: float = 0.0) -> Any:
    r"""The squared singular value of a matrix that is farthest from `centre`, differentiable.

    It is $\lVert M v\rVert^2$ with a singular vector $v$ of the smaller side, whose own gradient does not count.
    With at most 64 rows or columns $v$ is exact, by an eigendecomposition. Else it is the best one in the Krylov
    space $\{x, Gx, \dots, G^{63}x\}$ of the smaller Gram matrix $G$ and a fixed $x$, which needs neither $G$ nor a
    large eigendecomposition. The value is a Rayleigh quotient, so its error is the square of that of $v$. A
    matrix with an entry that is not finite gives NaN.
    """
    if matrix.shape[0] < matrix.shape[1]:
        matrix = ops.transpose(matrix)
    fixed = ops.stop_gradient(matrix)
    finite = ops.all(ops.isfinite(fixed))
    fixed = ops.where(finite, fixed, 0.0)  # An eigendecomposition of NaN raises on some backends.
    basis, images = None, fixed
    if matrix.shape[1] > _SUBSPACE:
        basis = _krylov_basis(fixed)
        images = matmul(fixed, basis)
    # Columns of the basis that are zero, once a space is exhausted, have the eigenvalue 0 here.
    inside = ops.eye(matrix.shape[1], dtype=fixed.dtype) if basis is None else smaller_gram(basis)
    values, vectors = ops.linalg.eigh(matmul(ops.transpose(images), images) - centre * inside)
    # Eigenvalues come in rising order.
    vector = ops.where(ops.abs(values[0]) > ops.abs(values[-1]), vectors[:, :1], vectors[:, -1:])
    if basis is not None:
        vector = unit_column(matmul(basis, vector))
    vector = ops.stop_gradient(ops.where(finite, vector, float("nan")))
    return ops.sum(ops.square(matmul(matrix, vector)))


def _krylov_basis(matrix):
    """An orthonormal basis `(columns, 64)` of the Krylov space of `M'M`, of a matrix with more columns."""
    transposed = ops.transpose(matrix)
    columns = ops.arange(_SUBSPACE)

    def step(index, state):
        basis, direction = state
        basis = basis + direction * ops.cast(columns == index, basis.dtype)
        image = unit_column(matmul(transposed, matmul(matrix, direction)))
        rest = image
        for _ in range(2):  # Once leaves what rounding adds.
            rest = rest - matmul(basis, matmul(ops.transpose(basis), rest))
        exhausted = ops.sum(rest * rest) < precision**2
        return basis, ops.where(exhausted, 0.0, unit_column(rest))

    precision = 1e-12 if keras.backend.standardize_dtype(matrix.dtype) == "float64" else 1e-5
    start = start_column(matrix)
    empty = ops.zeros((matrix.shape[1], _SUBSPACE), dtype=matrix.dtype)
    return ops.fori_loop(0, _SUBSPACE, step, (empty, start))[0]


def unit_column(column: Any) -> Any:
    """A column divided by its norm, without gradient; zero stays zero."""
    # By the largest entry first: the square of a tiny or huge vector is out of range.
    largest = ops.max(ops.abs(column))
    column = column / ops.where(largest > 0, largest, 1.0)
    norm = ops.sqrt(ops.sum(column * column))
    return column / ops.where(norm > 0, norm, 1.0)


def start_column(matrix: Any) -> Any:
    """A fixed unit vector `(columns, 1)` in no special direction."""
    return ops.convert_to_tensor(_start(matrix.shape[1]), dtype=matrix.dtype)


@functools.lru_cache(maxsize=64)
def _start(size):
    vector = np.random.default_rng(0).standard_normal((size, 1))
    return vector / np.linalg.norm(vector)
