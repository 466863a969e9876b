"""Linear maps of inverse problems: a matrix, or a function and its adjoint."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import safe_sqrt, upcast
from keras_regularize.validation import check_integer

#: Divides nothing by zero, and is the least normal number in float32.
LEAST = 1.2e-38


_EXPECTED = "`operator` must be a matrix (m, n), or a pair of functions `(forward, adjoint)`."


class LinearOperator(NamedTuple):
    """A linear map as a function and its adjoint."""

    forward: Callable[[Any], Any]
    adjoint: Callable[[Any], Any]


def as_operator(operator: Any, y: Any, shape: Sequence[int] | None = None) -> LinearOperator:
    """The map of `operator`, between `x (…, *shape)` and `y`, in the dtype of `y`.

    Rows of a matrix are the entries of the last axis of `y`; without `shape`, `x` is `(…, n)`.
    """
    if is_pair(operator):
        return LinearOperator(*operator)
    matrix = ops.cast(as_matrix(operator), y.dtype)
    m, n = matrix.shape
    shape = (n,) if shape is None else check_shape(shape)
    if not len(y.shape) or y.shape[-1] != m or math.prod(shape) != n:
        raise ValueError(
            f"A matrix of shape ({m}, {n}) maps images of {n} pixels to measurements (…, {m}). "
            f"Received: shape={shape}, y.shape={tuple(y.shape)}"
        )
    transposed = ops.transpose(matrix)
    if len(shape) == 1:
        return LinearOperator(
            lambda x: backend.times(x, transposed), lambda r: backend.times(r, matrix)
        )
    before = tuple(y.shape[:-1])
    return LinearOperator(
        lambda x: backend.times(backend.reshape(x, (*before, n)), transposed),
        lambda r: backend.reshape(backend.times(r, matrix), (*before, *shape)),
    )


def is_pair(operator: Any) -> bool:
    """Whether `operator` is a pair of functions."""
    return (
        isinstance(operator, (tuple, list)) and len(operator) == 2 and all(map(callable, operator))
    )


def check_shape(shape: Any) -> tuple[int, ...]:
    """The shape of an image as integers."""
    if not isinstance(shape, (tuple, list)):
        raise ValueError(f"`shape` must be a tuple of integers. Received: shape={shape!r}")
    return tuple(check_integer("shape", size, minimum=0) for size in shape)


def as_matrix(operator: Any, expected: str = _EXPECTED) -> Any:
    """`operator` as a tensor `(m, n)` of at least float32."""
    parts = operator if isinstance(operator, (tuple, list)) else [operator]
    if any(part is None or isinstance(part, str) or callable(part) for part in parts):
        raise ValueError(f"{expected} Received: {operator!r}")
    matrix = upcast(operator)
    if len(matrix.shape) != 2:
        raise ValueError(f"{expected} Received: shape={tuple(matrix.shape)}")
    return matrix


def repeat(
    count: int, step: Callable[[Any, Any], Any], state: Any, only_operations: bool = False
) -> Any:
    """The state after `step(i, state)` for all `i` below `count`, at least 1.

    With `only_operations` a step calls no function of the user, which may be a network or take gradients.
    """
    if not backend.RUNS_ONE_BY_ONE:  # TensorFlow takes long over operations by themselves.
        return backend.compiled(lambda state: ops.fori_loop(0, count, step, state))(state)

    def rest(state):
        # Keras' loop looks through the state, which takes as long as a step.
        for i in range(1, count):
            state = step(i, state)
        return state

    state = step(0, state)  # It shows whether a derivative is taken through what the step knows.
    return backend.without_records(rest, state) if only_operations else rest(state)


def repeat_while(going: Callable[..., Any], step: Callable[..., Any], state: Any) -> Any:
    """The state after `step(*state)` as long as `going(*state)`."""
    if not backend.RUNS_ONE_BY_ONE:
        return backend.compiled(lambda state: ops.while_loop(going, step, state))(state)
    while going(*state):
        state = step(*state)
    return state


def operator_norm(operator: Any, shape: Sequence[int] | None = None, iterations: int = 50) -> Any:
    r"""Largest singular value of a linear map, by power iteration.

    From a fixed random start $v$, $v \leftarrow A^\top\!A v / \|A^\top\!A v\|$ is repeated; the value is $\|A
    v\|$. It is never above the norm and, where the largest singular values lie close together, a few percent
    below: leave a step size such a margin.

    Args:
        operator: $A$: a matrix `(m, n)`, or a pair of functions `(forward, adjoint)`.
        shape: Shape of what `forward` takes. Not needed for a matrix.
        iterations: Number of iterations, at least 1.

    Returns:
        The norm, a scalar tensor in at least float32.

    Raises:
        ValueError: If `operator` is neither, or functions come without a `shape`.

    Cost: two products with the map per iteration.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.inverse.operator_norm(np.diag([3.0, 1.0]))  # 3
    ```

    Reference: Gene H. Golub and Charles F. Van Loan, *Matrix Computations*, Johns Hopkins University Press 2013.
    """
    check_integer("iterations", iterations, minimum=1)
    dtype = "float32"
    if not is_pair(operator):
        operator = as_matrix(operator)
        dtype = keras.backend.standardize_dtype(operator.dtype)
        shape = shape or (operator.shape[-1],)
    elif shape is None:
        raise ValueError("Functions need the `shape` of what they take. Received: shape=None")
    v = noise_like(ops.zeros(tuple(shape), dtype))
    if not isinstance(operator, (tuple, list)):
        measured = ops.zeros((operator.shape[0],), dtype)
        operator = as_operator(operator, measured, shape)
    return norm_of(LinearOperator(*operator), v, iterations)


def noise_like(x: Any) -> Any:
    """Where power iteration starts: the same numbers each time."""
    return keras.random.normal(ops.shape(x), dtype=x.dtype, seed=7)


def norm_of(operator: LinearOperator, v: Any, iterations: int = 50) -> Any:
    """The norm from a start `v`."""
    if 0 in v.shape:
        return ops.zeros((), v.dtype)  # No pixels.

    def step(_, v):
        v = operator.adjoint(operator.forward(v))
        return v / (ops.max(ops.abs(v)) + LEAST)  # Squares of maps of large numbers overflow.

    v = repeat(iterations, step, v)
    image = operator.forward(v)
    return safe_sqrt(ops.sum(image * image)) / ops.sqrt(ops.sum(v * v) + LEAST)
