"""The Bures-Wasserstein distance of covariances, with a gradient that repeated eigenvalues do not break."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.numerics import matmul, upcast
from keras_regularize.validation import compatible


def bures_distance(first: Any, second: Any) -> Any:
    r"""`tr A + tr B - 2 tr (A^½ B A^½)^½` of covariances `(…, d, d)`; the gradient is that in the second alone.

    It is $I - T$ with the transport map $T = A^{1/2} (A^{1/2} B A^{1/2})^{-1/2} A^{1/2}$, where directions that
    are 0 to rounding have none. Eigenvectors are never differentiated, so there is no second derivative.
    """
    first, second = _symmetric(ops.stop_gradient(first)), _symmetric(second)
    root = _root(first)
    inner = _symmetric(matmul(matmul(root, ops.stop_gradient(second)), root))
    values, vectors, finite = _eigen(inner)
    kept = _above_rounding(values)
    fidelity = ops.where(kept, ops.sqrt(values), 0.0)
    fidelity = ops.where(finite, ops.sum(fidelity, axis=-1), float("nan"))
    inverse = ops.where(kept, 1.0 / ops.sqrt(ops.where(kept, values, 1.0)), 0.0)
    inverse = _from_eigen(inverse, vectors)
    transport = ops.stop_gradient(matmul(matmul(root, inverse), root))
    # Its gradient in B is T / 2.
    surrogate = 0.5 * ops.sum(transport * second, axis=(-2, -1))
    return _trace(first) + _trace(second) - 2.0 * straight_through(fidelity, surrogate)


def matrix_root(covariance: Any) -> Any:
    """The symmetric root of covariances `(…, d, d)`, without gradient; eigenvalues below 0 are 0."""
    return _root(_symmetric(ops.stop_gradient(covariance)))


def covariances(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Two tensors `(batch, …, d, d)` of one shape, in one dtype of at least float32."""
    second = upcast(y_pred)
    first = ops.cast(ops.convert_to_tensor(y_true), second.dtype)
    shapes = tuple(first.shape), tuple(second.shape)
    square = len(shapes[1]) >= 3 and compatible(shapes[1][-1:], shapes[1][-2:-1])
    if not square or not compatible(*shapes):
        raise ValueError(
            "Expected covariances (batch, d, d). "
            f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
        )
    return first, second


def _symmetric(matrix):
    return 0.5 * (matrix + ops.swapaxes(matrix, -1, -2))


def _trace(matrix):
    one = ops.eye(matrix.shape[-1], dtype=matrix.dtype)
    return ops.sum(matrix * one, axis=(-2, -1))


def _eigen(matrix):
    """Eigenvalues of at least 0, eigenvectors, and whether the matrix is finite."""
    matrix = ops.stop_gradient(matrix)
    finite = ops.all(ops.isfinite(matrix), axis=(-2, -1))
    # An eigendecomposition of NaN raises on some backends.
    values, vectors = ops.linalg.eigh(ops.where(finite[..., None, None], matrix, 0.0))
    return ops.relu(values), vectors, finite


def _from_eigen(values, vectors):
    return matmul(vectors * values[..., None, :], ops.swapaxes(vectors, -1, -2))


def _root(matrix):
    values, vectors, finite = _eigen(matrix)
    root = _from_eigen(ops.sqrt(values), vectors)
    return ops.where(finite[..., None, None], root, float("nan"))


def _above_rounding(values):
    """Which eigenvalues are more than rounding of the largest, which is the last."""
    precision = 1e-15 if keras.backend.standardize_dtype(values.dtype) == "float64" else 1e-7
    return values > precision * values.shape[-1] * values[..., -1:]
