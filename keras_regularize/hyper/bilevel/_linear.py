"""Linear systems and extreme eigenvalues of symmetric operators on vectors of the host."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_regularize.validation import check_number

Operator = Callable[[np.ndarray], np.ndarray]
#: Up to this size all columns of an operator are computed.
DENSE = 64


class Solution(NamedTuple):
    """An approximate solution with the norm of its residual; `iterations` are products with the operator."""

    x: np.ndarray
    residual: float
    iterations: int
    converged: bool


def conjugate_gradient(
    product: Operator,
    b: np.ndarray,
    start: np.ndarray | None,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Solves `A x = b` to a residual norm of at most `tolerance`.

    Ends where the curvature is not positive, or where rounding lets the residual grow instead of fall; the best
    vector so far is the result.
    """
    x = np.zeros_like(b) if start is None else start.copy()
    residual = b - product(x) if x.any() else b.copy()
    direction, square = residual.copy(), float(residual @ residual)
    best, least, since = x.copy(), square, 0
    iterations = 0
    while iterations < max_iterations and least > tolerance**2 and since < 10:
        along = product(direction)
        iterations += 1
        curvature = float(direction @ along)
        if not curvature > 0:
            break
        step = square / curvature
        x = x + step * direction
        residual = residual - step * along
        square, before = float(residual @ residual), square
        since += 1
        if square < least:
            best, least, since = x.copy(), square, 0
        direction = residual + square / before * direction
    return Solution(best, float(np.sqrt(least)), iterations, least <= tolerance**2)


def neumann(product: Operator, b: np.ndarray, terms: int, step: float) -> Solution:
    """`step · Σ_{j < terms} (I - step A)^j b`, which tends to the solution of `A x = b`."""
    total, term = b.copy(), b
    for _ in range(terms - 1):
        term = term - step * product(term)
        total = total + term
    x = step * total
    residual = float(np.linalg.norm(b - product(x)))
    return Solution(x, residual, terms, False)


def dense(product: Operator, size: int) -> np.ndarray:
    """The matrix of an operator on vectors of a size."""
    return np.stack([product(row) for row in np.eye(size)], axis=1)


def extreme_eigenvalues(
    product: Operator, size: int, smallest: bool = False
) -> tuple[float, float]:
    """`(smallest, largest)` eigenvalues: exact for few dimensions, else of 50 steps of a power iteration.

    The smallest is NaN unless asked for; by a power iteration it is found from above.
    """
    if size <= DENSE:
        matrix = dense(product, size)
        values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
        return float(values[0]), float(values[-1])
    largest = _power(product, size)
    if not smallest:
        return float("nan"), largest
    return largest - _power(lambda v: largest * v - product(v), size), largest


def operator_norm(product: Operator, adjoint: Operator, size: int) -> float:
    """The largest singular value of an operator on vectors of a size."""
    if size <= DENSE:
        return float(np.linalg.norm(dense(product, size), 2))
    return float(np.sqrt(max(_power(lambda v: adjoint(product(v)), size), 0.0)))


def _power(product, size, steps=50):
    vector = np.random.default_rng(0).normal(size=size)
    vector /= np.linalg.norm(vector)
    value = 0.0
    for _ in range(steps):
        new = product(vector)
        value, norm = float(vector @ new), float(np.linalg.norm(new))
        if norm == 0:
            break
        vector = new / norm
    return value


def positive_step(step: float | None, product: Operator, size: int) -> float:
    """A step as given, or the inverse of the largest eigenvalue."""
    if step is not None:
        return float(check_number("step_size", step, above=0))
    largest = extreme_eigenvalues(product, size)[1]
    if not largest > 0:
        raise ValueError(
            "The inner objective has no positive curvature at these weights; give a `step_size`."
        )
    return 1.0 / largest
