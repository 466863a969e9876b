"""Transport of mass that keeps classes together."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.inverse._operators import repeat
from keras_regularize.numerics import TINY, safe_sqrt, upcast
from keras_regularize.validation import check_integer, check_number, compatible


def sum_of_norms_transport(
    cost: Any,
    row_marginal: Any,
    column_marginal: Any,
    row_weights: Any,
    column_weights: Any,
    factor: float = 1.0,
    iterations: int = 2000,
    rho: float = 1.0,
) -> Any:
    r"""The plan of transport in which points of a class are sent alike: its rows, and columns, are pulled
    together.

    $$\min_{X \ge 0,\; X 1 = a,\; X^\top 1 = b}\; \langle C, X \rangle + \lambda \sum_{i < j} \big(R_{ij}\,
      \|X_{i:} - X_{j:}\|_2 + S_{ij}\, \|X_{:i} - X_{:j}\|_2\big).$$

    The norms, not their squares, make whole rows equal. Without any ($\lambda = 0$) it is the linear program of
    transport; as $\lambda \to \infty$ with all $R_{ij}$ and $S_{ij}$ alike and equal marginals, $a b^\top$. Solved
    by the alternating directions method of multipliers, whose linear step has a closed form here: since the
    marginals are given, the Laplacian of all pairs is a multiple of the identity. The sign has a block of its own,
    so that entries of the result may be slightly negative before it has converged; they are cut off.

    Args:
        cost: $C$, `(n, m)`.
        row_marginal: $a > 0$, masses of the sources `(n,)`.
        column_marginal: $b > 0$, masses of the targets `(m,)`, with the same sum.
        row_weights: $R \ge 0$, symmetric `(n, n)`: 1 for two sources of a class, or a kernel; its diagonal does
            not count.
        column_weights: $S \ge 0$, symmetric `(m, m)`, for targets.
        factor: $\lambda \ge 0$.
        iterations: Number of iterations, at least 1.
        rho: Weight of the penalty of the method, above 0, relative to the scale of cost and masses; it is for
            the speed alone.

    Returns:
        The plan `(n, m)`.

    Raises:
        ValueError: If a number is out of range or the shapes do not fit.

    Cost: a few passes over $n m (n + m)$ numbers per iteration, which are kept: some seconds for a hundred points
    on
        both sides, and 1 GB of memory for three hundred. For more see `sinkhorn`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    cost = np.random.default_rng(0).uniform(size=(4, 3))
    classes = np.array([0, 0, 1, 1])
    same = (classes[:, None] == classes).astype("float32")
    plan = kr.inverse.sum_of_norms_transport(
        cost, np.full(4, 1 / 4), np.full(3, 1 / 3), same, np.zeros((3, 3)), factor=1.0
    )
    ```

    Reference: Arman Rahbar, Ashkan Panahi, Morteza Haghir Chehreghani, Devdatt Dubhashi and Hamid Krim, *Recovery
    Bounds on Class-Based Optimal Transport: A Sum-of-Norms Regularization Framework*, ICML 2023, arXiv:1903.03850.
    The objective is recalled; the algorithm is another one than theirs, with the same minimizer.
    """
    check_number("factor", factor, minimum=0)
    check_number("rho", rho, above=0)
    check_integer("iterations", iterations, minimum=1)
    cost = upcast(cost)
    a, b = _masses(cost, row_marginal, column_marginal)
    of_rows, of_columns = _pair_weights(cost, row_weights, column_weights)
    n, m = cost.shape
    # The eigenvalue of the Laplacian of all pairs; the block of the sign weighs as much.
    pulls = n + m
    # In units of the typical entry of a plan, and of the cost.
    mass = ops.sum(a) / max(n, m)
    unit = ops.sum(ops.absolute(cost)) / (n * m) * (2.0 * rho / pulls) + TINY
    a, b, cost = a / mass, b / mass, cost / unit
    reach_rows = of_rows[..., None] * (factor / unit)
    reach_columns = of_columns[..., None] * (factor / unit)

    def step(_, state):
        x, dual, rows, columns = state
        # `_shorten` leaves the dual of what it is given, and takes away the copy; both pull, the dual back.
        pairs = _differences(x) + rows
        rows = _shorten(pairs, reach_rows)
        pairs = pairs - 2.0 * rows
        turned = _differences(ops.transpose(x)) + columns
        columns = _shorten(turned, reach_columns)
        turned = turned - 2.0 * columns
        signed = x + dual
        positive = ops.relu(signed)
        dual = signed - positive
        pull = ops.sum(pairs, axis=1) + ops.transpose(ops.sum(turned, axis=1))
        x = _onto_marginals((pulls * (positive - dual) + pull - cost) / (2 * pulls), a, b)
        return x, dual, rows, columns

    start = (
        a[:, None] * b[None, :] / ops.sum(a),
        ops.zeros_like(cost),
        ops.zeros((n, n, m), cost.dtype),
        ops.zeros((m, m, n), cost.dtype),
    )
    return ops.relu(repeat(iterations, step, start, True)[0]) * mass


def sum_of_norms_penalty(plan: Any, row_weights: Any, column_weights: Any) -> Any:
    r"""How much rows and columns of a plan differ within classes.

    $$\sum_{i < j} R_{ij}\, \|X_{i:} - X_{j:}\|_2 + \sum_{i < j} S_{ij}\, \|X_{:i} - X_{:j}\|_2,$$

    0 if and only if all rows, and all columns, of a positive weight coincide; equal ones have gradient 0.

    Args:
        plan: $X$, `(n, m)`.
        row_weights: $R \ge 0$, symmetric `(n, n)`.
        column_weights: $S \ge 0$, symmetric `(m, m)`.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: $n m (n + m)$ operations and as much memory.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    plan = np.array([[0.5, 0.0], [0.0, 0.5]])
    kr.inverse.sum_of_norms_penalty(plan, np.ones((2, 2)), np.zeros((2, 2)))  # 0.707
    ```

    Reference: Arman Rahbar, Ashkan Panahi, Morteza Haghir Chehreghani, Devdatt Dubhashi and Hamid Krim, *Recovery
    Bounds on Class-Based Optimal Transport: A Sum-of-Norms Regularization Framework*, ICML 2023, arXiv:1903.03850.
    """
    plan = upcast(plan)
    of_rows, of_columns = _pair_weights(plan, row_weights, column_weights)
    total = 0.0
    for x, weights in ((plan, of_rows), (ops.transpose(plan), of_columns)):
        differences = _differences(x)
        norms = safe_sqrt(ops.sum(differences * differences, axis=-1))
        total = total + 0.5 * ops.sum(weights * norms)
    return total


def pairwise_fusion_prox(a: Any, b: Any, threshold: Any) -> Any:
    r"""Moves two vectors towards each other, until they meet: the proximal map of $t\, \|a - b\|_2$.

    Their mean stays and their difference $d$ shrinks to $d\, \max(0, 1 - 2 t / \|d\|)$.

    Args:
        a: Vectors `(…, d)`.
        b: Vectors of the same shape.
        threshold: $t \ge 0$, a number.

    Returns:
        Both, stacked: `(2, …, d)`.

    Raises:
        ValueError: If `threshold` is negative or the shapes differ.

    Cost: a few elementwise passes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.inverse.pairwise_fusion_prox(np.array([0.0, 0.0]), np.array([4.0, 0.0]), 1.0)  # 1 and 3
    ```

    Reference: Arman Rahbar, Ashkan Panahi, Morteza Haghir Chehreghani, Devdatt Dubhashi and Hamid Krim, *Recovery
    Bounds on Class-Based Optimal Transport: A Sum-of-Norms Regularization Framework*, ICML 2023, arXiv:1903.03850.
    """
    check_number("threshold", threshold, minimum=0)
    a, b = upcast(a), upcast(b)
    if not len(a.shape) or not compatible(a.shape, b.shape):
        raise ValueError(
            "`a` and `b` must be vectors (…, d) of one shape. "
            f"Received: a.shape={tuple(a.shape)}, b.shape={tuple(b.shape)}"
        )
    b = ops.cast(b, a.dtype)
    half = 0.5 * (a - b)
    half = half - _shorten(half, threshold)
    centre = 0.5 * (a + b)
    return ops.stack([centre + half, centre - half])


def marginal_projection(plan: Any, row_marginal: Any, column_marginal: Any) -> Any:
    r"""The nearest matrix with given sums of rows and columns, signs free.

    $$X + \tfrac1m\, r 1^\top + \tfrac1n\, 1 c^\top - \frac{\sum_i r_i}{n m},\qquad r = a - X 1,\quad c = b -
      X^\top 1.$$

    Args:
        plan: $X$, `(n, m)`.
        row_marginal: $a$, `(n,)`.
        column_marginal: $b$, `(m,)`, with the same sum.

    Returns:
        The projection `(n, m)`.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few passes over the plan.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.inverse.marginal_projection(np.zeros((2, 2)), np.full(2, 0.5), np.full(2, 0.5))  # 0.25
    ```

    Reference: Arman Rahbar, Ashkan Panahi, Morteza Haghir Chehreghani, Devdatt Dubhashi and Hamid Krim, *Recovery
    Bounds on Class-Based Optimal Transport: A Sum-of-Norms Regularization Framework*, ICML 2023, arXiv:1903.03850.
    """
    plan = upcast(plan)
    return _onto_marginals(plan, *_marginals(plan, row_marginal, column_marginal))


def sinkhorn(
    cost: Any, row_marginal: Any, column_marginal: Any, epsilon: float, iterations: int = 200
) -> Any:
    r"""The plan of transport of least cost less entropy, by Sinkhorn's iterations in the logarithm.

    $$\min_{X \ge 0,\; X 1 = a,\; X^\top 1 = b}\; \langle C, X \rangle - \epsilon H(X), \qquad X_{ij} = e^{(f_i +
      g_j - C_{ij}) / \epsilon}.$$

    The potentials $f, g$ are found in turns, as soft minima, which a small $\epsilon$ does not overflow: it only
    needs more iterations, about in proportion to $1 / \epsilon$. The columns' sums are exact, those of the rows as
    far as it has converged.

    Args:
        cost: $C$, `(n, m)`.
        row_marginal: $a > 0$, `(n,)`.
        column_marginal: $b > 0$, `(m,)`, with the same sum.
        epsilon: $\epsilon > 0$, in units of the cost.
        iterations: Number of iterations, at least 1.

    Returns:
        The plan `(n, m)`.

    Raises:
        ValueError: If a number is out of range or the shapes do not fit.

    Cost: two passes with exponentials over the cost per iteration.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    cost = np.array([[0.0, 1.0], [1.0, 0.0]])
    kr.inverse.sinkhorn(cost, np.full(2, 0.5), np.full(2, 0.5), epsilon=0.1)
    ```

    Reference: Marco Cuturi, *Sinkhorn Distances: Lightspeed Computation of Optimal Transport*, NeurIPS 2013,
    arXiv:1306.0895; in the logarithm: Gabriel Peyré and Marco Cuturi, *Computational Optimal Transport*,
    Foundations and Trends in Machine Learning 2019, arXiv:1803.00567.
    """
    check_number("epsilon", epsilon, above=0)
    check_integer("iterations", iterations, minimum=1)
    cost = upcast(cost)
    a, b = _masses(cost, row_marginal, column_marginal)
    scores = -cost / epsilon
    log_a, log_b = ops.log(a), ops.log(b)

    def step(_, state):
        _, g = state
        f = log_a - ops.logsumexp(scores + g[None, :], axis=1)
        return f, log_b - ops.logsumexp(scores + f[:, None], axis=0)

    start = (ops.zeros_like(a), ops.zeros_like(b))
    f, g = repeat(iterations, step, start, True)
    return ops.exp(scores + f[:, None] + g[None, :])


def _onto_marginals(x, a, b):
    n, m = x.shape
    rows, columns = a - ops.sum(x, axis=1), b - ops.sum(x, axis=0)
    return x + rows[:, None] / m + columns[None, :] / n - ops.sum(rows) / (n * m)


def _differences(x):
    """`x_i - x_j` of all rows: `(n, n, m)`."""
    return x[:, None] - x[None, :]


def _shorten(x, length):
    """Vectors of the last axis, those longer than a length shortened to it."""
    squares = ops.sum(x * x, axis=-1, keepdims=True)
    return x * ops.clip(length / ops.sqrt(squares + TINY), 0.0, 1.0)


def _marginals(x, row_marginal, column_marginal):
    if len(x.shape) != 2:
        raise ValueError(f"Expected a matrix (n, m). Received: shape={tuple(x.shape)}")
    a, b = (ops.cast(upcast(mass), x.dtype) for mass in (row_marginal, column_marginal))
    if not compatible(a.shape, x.shape[:1]) or not compatible(b.shape, x.shape[1:]):
        raise ValueError(
            f"For a matrix {tuple(x.shape)} expected marginals {tuple(x.shape[:1])} and "
            f"{tuple(x.shape[1:])}. Received: {tuple(a.shape)} and {tuple(b.shape)}"
        )
    masses = [backend.peek(mass) for mass in (a, b)]
    if not any(mass is None for mass in masses):
        total, other = (float(np.sum(mass)) for mass in masses)
        if abs(total - other) > 1e-3 * max(abs(total), abs(other)):
            raise ValueError(
                f"Both marginals must have the same sum. Received: sums {total} and {other}"
            )
    return a, b


def _masses(x, row_marginal, column_marginal):
    """Marginals that are masses."""
    a, b = _marginals(x, row_marginal, column_marginal)
    for name, mass in (("row_marginal", a), ("column_marginal", b)):
        _check_sign(name, mass)
    return a, b


def _check_sign(name, x):
    values = backend.peek(x)
    if values is not None and np.any(values < 0):
        raise ValueError(f"`{name}` must be at least 0. Received: {name}={values}")


def _pair_weights(x, row_weights, column_weights):
    weights = tuple(ops.cast(upcast(w), x.dtype) for w in (row_weights, column_weights))
    for given, size in zip(weights, x.shape):
        if not compatible(given.shape, (size, size)):
            raise ValueError(
                f"For a plan {tuple(x.shape)} expected weights of pairs ({x.shape[0]}, {x.shape[0]}) and "
                f"({x.shape[1]}, {x.shape[1]}). Received: {tuple(weights[0].shape)} and "
                f"{tuple(weights[1].shape)}"
            )
    for name, given in zip(("row_weights", "column_weights"), weights):
        _check_sign(name, given)
        values = backend.peek(given)
        if values is not None and np.any(np.abs(values - values.T) > 1e-3 * np.max(np.abs(values))):
            raise ValueError(f"`{name}` must be symmetric. Received: {name}={values}")
    return weights
