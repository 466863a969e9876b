"""Gram matrices of kernels."""

from typing import Any

from keras import ops


def smaller_gram(matrix: Any) -> Any:
    """`M'M` of tall matrices `(…, rows, columns)`, `MM'` of wide ones.

    The larger one has the same eigenvalues and zeros besides, so it can never be the identity.
    """
    rows, columns = matrix.shape[-2:]
    transposed = ops.swapaxes(matrix, -1, -2)
    return ops.matmul(matrix, transposed) if rows < columns else ops.matmul(transposed, matrix)


def minus_identity(gram: Any) -> Any:
    """How far Gram matrices `(…, n, n)` are from the identity, entry by entry."""
    return gram - ops.eye(gram.shape[-1], dtype=gram.dtype)
