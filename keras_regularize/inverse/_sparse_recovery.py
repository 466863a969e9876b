"""Sparse solutions of linear equations by iterated thresholding."""

from typing import Any

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.constraints.sparsity import hard_threshold, soft_threshold
from keras_regularize.inverse._operators import as_matrix, operator_norm, repeat
from keras_regularize.numerics import upcast
from keras_regularize.validation import check_integer, check_number


def ista(
    measurements: Any,
    matrix: Any,
    factor: float,
    step_size: float | None = None,
    iterations: int = 100,
) -> Any:
    r"""Sparse solutions of linear equations by iterative soft thresholding: the Lasso.

    $$x \leftarrow S_{\gamma \lambda}\big(x - \gamma A^\top (A x - y)\big),\qquad
      S_t(v) = \operatorname{sign}(v) \max(|v| - t, 0),$$

    from $x = 0$, which descends to the minimum of $\tfrac12 \|y - A x\|^2 + \lambda \|x\|_1$. `fista` gets there
    sooner.

    Args:
        measurements: $y$, `(m,)` or `(…, m)`.
        matrix: $A$, `(m, n)`.
        factor: $\lambda \ge 0$.
        step_size: $\gamma > 0$; `None` for $1 / \|A\|^2$, up to which every step descends.
        iterations: Number of iterations, at least 1.

    Returns:
        $x$, `(n,)` or `(…, n)`.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Cost: two products with the matrix per iteration, and a hundred for a step size that is not given. On a backend
    that compiles, compile calls of yours in a loop (`jax.jit`, `tf.function`).

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    matrix = np.random.default_rng(0).normal(size=(20, 40)).astype("float32")
    x = kr.inverse.ista(matrix[:, 3] - matrix[:, 7], matrix, factor=0.1)
    ```

    Reference: Ingrid Daubechies, Michel Defrise and Christine De Mol, *An iterative thresholding algorithm for
    linear inverse problems with a sparsity constraint*, Communications on Pure and Applied Mathematics 2004.
    """
    y, matrix, root = _problem(measurements, matrix, factor, step_size, iterations)
    descend = _descent(y, matrix, root)
    threshold = root * (root * factor)

    def step(_, x):
        return soft_threshold(descend(x), threshold)

    return repeat(iterations, step, _zeros(y, matrix), True)


def fista(
    measurements: Any,
    matrix: Any,
    factor: float,
    step_size: float | None = None,
    iterations: int = 100,
) -> Any:
    r"""Sparse solutions of linear equations by accelerated soft thresholding: the Lasso, sooner than by `ista`.

    With $t_1 = 1$ and $t_{k+1} = \tfrac12 (1 + \sqrt{1 + 4 t_k^2})$,

    $$x_k = S_{\gamma \lambda}\big(z_k - \gamma A^\top (A z_k - y)\big),\qquad
      z_{k+1} = x_k + \frac{t_k - 1}{t_{k+1}} (x_k - x_{k-1}).$$

    The distance of $\tfrac12 \|y - A x\|^2 + \lambda \|x\|_1$ from its minimum falls like $1 / k^2$, though not in
    every step.

    Args:
        measurements: $y$, `(m,)` or `(…, m)`.
        matrix: $A$, `(m, n)`.
        factor: $\lambda \ge 0$.
        step_size: $\gamma > 0$, at most $1 / \|A\|^2$, which `None` stands for.
        iterations: Number of iterations, at least 1.

    Returns:
        $x$, `(n,)` or `(…, n)`.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Cost: that of `ista`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    matrix = np.random.default_rng(0).normal(size=(20, 40)).astype("float32")
    x = kr.inverse.fista(matrix[:, 3] - matrix[:, 7], matrix, factor=0.1)
    ```

    Reference: Amir Beck and Marc Teboulle, *A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
    Problems*, SIAM Journal on Imaging Sciences 2009.
    """
    y, matrix, root = _problem(measurements, matrix, factor, step_size, iterations)
    descend = _descent(y, matrix, root)
    threshold = root * (root * factor)
    momentum = _momentum(iterations)
    if not backend.RUNS_ONE_BY_ONE:
        momentum = ops.convert_to_tensor(momentum, dtype=y.dtype)

    def step(i, state):
        x, z = state
        new = soft_threshold(descend(z), threshold)
        return new, backend.extrapolate(x, new, momentum[i])

    start = _zeros(y, matrix)
    return repeat(iterations, step, (start, start), True)[0]


def iht(
    measurements: Any,
    matrix: Any,
    factor: float,
    step_size: float | None = None,
    iterations: int = 100,
) -> Any:
    r"""Sparse solutions of linear equations by iterative hard thresholding.

    $$x \leftarrow H_{\sqrt{2 \gamma \lambda}}\big(x - \gamma A^\top (A x - y)\big),\qquad
      H_t(v) = v \text{ if } |v| > t \text{ else } 0,$$

    from $x = 0$, which descends to a local minimum of $\tfrac12 \|y - A x\|^2 + \lambda \|x\|_0$. What is kept is
    not shrunk. Which minimum it is depends on the step size: learn it by `kr.layers.UnfoldedIHT`.

    Args:
        measurements: $y$, `(m,)` or `(…, m)`.
        matrix: $A$, `(m, n)`.
        factor: $\lambda \ge 0$, what an entry that is not 0 costs.
        step_size: $\gamma > 0$; `None` for $1 / \|A\|^2$, up to which every step descends.
        iterations: Number of iterations, at least 1.

    Returns:
        $x$, `(n,)` or `(…, n)`.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Cost: that of `ista`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    matrix = np.random.default_rng(0).normal(size=(20, 40)).astype("float32")
    x = kr.inverse.iht(matrix[:, 3] - matrix[:, 7], matrix, factor=0.1)
    ```

    Reference: Thomas Blumensath and Mike E. Davies, *Iterative Thresholding for Sparse Approximations*, Journal of
    Fourier Analysis and Applications 2008.
    """
    y, matrix, root = _problem(measurements, matrix, factor, step_size, iterations)
    descend = _descent(y, matrix, root)
    threshold = root * (2.0 * factor) ** 0.5

    def step(_, x):
        return hard_threshold(descend(x), threshold)

    return repeat(iterations, step, _zeros(y, matrix), True)


def _problem(measurements, matrix, factor, step_size, iterations):
    """Measurements and matrix in one dtype, and the root of the step size."""
    check_number("factor", factor, minimum=0)
    check_integer("iterations", iterations, minimum=1)
    y = upcast(measurements)
    matrix = ops.cast(as_matrix(matrix, "`matrix` must be (m, n)."), y.dtype)
    if not len(y.shape) or y.shape[-1] != matrix.shape[0]:
        raise ValueError(
            "Expected a matrix (m, n) and measurements (…, m). "
            f"Received: matrix.shape={tuple(matrix.shape)}, measurements.shape={tuple(y.shape)}"
        )
    if step_size is not None:
        return y, matrix, check_number("step_size", step_size, above=0) ** 0.5
    norm = 1.01 * operator_norm(matrix)
    nothing = norm == 0  # No signal explains anything: it stays at 0.
    return y, matrix, ops.where(nothing, 0.0, 1.0 / ops.where(nothing, 1.0, norm))


def _descent(y, matrix, root):
    """The step `x - γ Aᵀ(Ax - y)`."""
    matrix, y = root * matrix, root * y  # On both sides: each step reads the memory of one matrix.
    transposed = ops.transpose(matrix)

    def descend(x):
        return backend.add_times(x, backend.add_times(y, x, transposed, -1), matrix)

    return descend


def _zeros(y, matrix):
    return ops.zeros_like(backend.times(y, matrix))


def _momentum(iterations):
    """Numbers `(t_k - 1) / t_{k+1}`."""
    t, rows = 1.0, []
    for _ in range(iterations):
        following = 0.5 * (1.0 + (1.0 + 4.0 * t * t) ** 0.5)
        rows.append((t - 1.0) / following)
        t = following
    return rows
