"""The Lanczos iteration on the host, with vectors that an operator on the device multiplies."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from keras_regularize.analysis._progress import progress

_COLUMNS = 2**15  # Entries at once, so that what is converted stays in the cache.


class Krylov(NamedTuple):
    """Orthonormal rows `basis (steps, n)` in which the operator is tridiagonal, with what couples a next row."""

    basis: np.ndarray
    diagonal: np.ndarray
    off_diagonal: np.ndarray  # `(steps,)`; the last is the norm of what is left beside the basis.

    def eigh(self):
        """`(eigenvalues, eigenvectors, residuals)` of the tridiagonal matrix, the smallest first."""
        between = self.off_diagonal[:-1]
        matrix = np.diag(self.diagonal) + np.diag(between, 1) + np.diag(between, -1)
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors, np.abs(self.off_diagonal[-1] * vectors[-1])


def lanczos(
    product: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    steps: int,
    random: np.random.Generator,
    done: Callable[[Krylov], bool] = lambda found: False,
    restart: bool = False,
    name: str = "Lanczos",
) -> Krylov:
    """Runs up to `steps` steps from a vector; at most as many as there are dimensions.

    Rows keep the dtype of `start`, dot products are in double precision, and every new row is made orthogonal to
    the last two, after which it is so to all but for rounding, and then to all. Where the space closes it ends, or
    with `restart` goes on in a random direction beside it.
    """
    steps = min(steps, start.size)
    basis = np.empty((steps, start.size), start.dtype)
    diagonal, off_diagonal = np.zeros(steps), np.zeros(steps)
    row = start.astype("float64")
    row /= norm(row)
    for i in progress(range(steps), name, steps):
        basis[i] = row
        new = product(basis[i]).astype("float64")
        diagonal[i] = basis[i].astype("float64") @ new
        if not np.isfinite(diagonal[i]):  # As soon as one of the entries is not.
            raise ValueError("The loss has derivatives that are not finite at these weights.")
        orthogonalize(new, basis[: i + 1], np.append(off_diagonal[max(i - 1, 0) : i], diagonal[i]))
        off_diagonal[i] = norm(new)
        found = Krylov(basis[: i + 1], diagonal[: i + 1], off_diagonal[: i + 1])
        size = np.abs(diagonal[: i + 1]).max() + off_diagonal[:i].max(initial=0.0)
        # What rounding in the products leaves is no direction.
        closed = off_diagonal[i] <= 10 * np.finfo(start.dtype).eps * size
        if closed:
            off_diagonal[i] = 0.0
        if i + 1 == steps or (closed and not restart) or (not closed and done(found)):
            break
        if closed:
            new = random.normal(size=start.size)
            for _ in range(2):
                orthogonalize(new, basis[: i + 1])
            row = new / norm(new)
        else:
            row = np.divide(new, off_diagonal[i], out=new)
    return found


def orthogonalize(
    vector: np.ndarray, basis: np.ndarray, known: Sequence[float] | np.ndarray = (0.0,)
) -> None:
    """Takes from a vector, in place, known parts along the last of some orthonormal rows, then those along all."""
    parts = np.zeros(len(basis))
    chunks = [slice(i, i + _COLUMNS) for i in range(0, vector.size, _COLUMNS)]
    for chunk in chunks:
        rows = basis[:, chunk].astype("float64")
        vector[chunk] -= known @ rows[len(rows) - len(known) :]
        parts += rows @ vector[chunk]
    for chunk in chunks:
        vector[chunk] -= parts.astype(basis.dtype) @ basis[:, chunk]  # As exact as the rows are.


def combined(basis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of rows with weights, in the dtype of the rows."""
    result = np.empty(basis.shape[1], basis.dtype)
    for i in range(0, result.size, _COLUMNS):
        result[i : i + _COLUMNS] = weights @ basis[:, i : i + _COLUMNS].astype("float64")
    return result


def norm(vector: np.ndarray) -> float:
    """The Euclidean norm, in double precision."""
    vector = vector.astype("float64", copy=False)
    return float(np.sqrt(vector @ vector))
