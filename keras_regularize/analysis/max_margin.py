"""Linear classifiers that learn one separable task after another."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Vectors longer than this times the data's inverse size count as "there is none".
_LONGEST = 1e6


def sequential_max_margin(tasks: Sequence[tuple[Any, Any]], initial: Any = None) -> np.ndarray:
    r"""The path of a weakly regularized linear classifier that learns separable tasks one after another.

    $$w_t = \arg\min_w \lVert w - w_{t-1} \rVert^2\quad\text{subject to}\quad
    y\, (w \cdot x) \ge 1\ \text{ for all } (x, y) \text{ of task } t,$$

    the projection onto the vectors that classify task $t$ with margin, from the last one. It is what
    minimizing the exponential loss with $\frac\lambda2\lVert w - w_{t-1}\rVert^2$ gives for $\lambda \to 0$, in
    direction. The first task, from zero, is the hard-margin support vector machine. A task that is
    satisfied already changes nothing; repeating the tasks leads to a classifier of all, if there is one.
    There is no intercept: append a constant feature for one.

    Args:
        tasks: For every task its samples `(samples, dim)` and labels, -1 or 1, `(samples,)`.
        initial: $w_0$ of shape `(dim,)`; zero by default.

    Returns:
        Float64 array `(tasks, dim)` of the vectors after each task.

    Raises:
        ValueError: If there is no task, shapes do not match, labels are others, or a task is not separable.

    Cost: per task a non-negative least-squares problem of `dim + 1` equations, by an active-set method.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    tasks = [(np.array([[1.0, 0.2], [-1.0, 0.4]]), np.array([1, -1])),
             (np.array([[0.1, 1.0]]), np.array([1]))]
    path = kr.analysis.sequential_max_margin(tasks)
    forgotten = kr.analysis.margin_violation(path[-1], tasks[0])
    ```

    Reference: Itay Evron and others, *Continual Learning in Linear Classification on Separable Data*, ICML
    2023, arXiv:2306.03534.
    """
    signed = [_signed(*task) for task in tasks]
    if not signed:
        raise ValueError("`tasks` must have at least one task. Received none.")
    dims = sorted({rows.shape[1] for rows in signed})
    weights = np.zeros(dims[0]) if initial is None else np.asarray(initial, "float64")
    if dims != [weights.size] or weights.ndim != 1:
        raise ValueError(
            "All samples and `initial` must have the same number of features. Received: samples with "
            f"{dims} and initial of shape {weights.shape}"
        )
    path = []
    for number, rows in enumerate(signed):
        step = _shortest(rows, 1.0 - rows @ weights)
        if step is None:
            raise ValueError(
                f"Task {number} is not separable: no vector has y (w·x) ≥ 1 for all of its samples."
            )
        weights = weights + step
        path.append(weights)
    return np.stack(path)


def margin_violation(w: Any, task: tuple[Any, Any]) -> float:
    r"""How far a linear classifier is from classifying a task with margin.

    $$\max_{(x, y)} \big(1 - y\,(w \cdot x)\big)_+^2$$

    For an earlier task of `sequential_max_margin` it is what was forgotten of it.

    Args:
        w: Vector `(dim,)`.
        task: Samples `(samples, dim)` and labels, -1 or 1, `(samples,)`.

    Returns:
        A float, 0 if every sample has margin.

    Raises:
        ValueError: If shapes do not match or labels are others.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.margin_violation([0.5, 0.0], (np.array([[1.0, 0.0]]), np.array([1])))  # 0.25
    ```

    Reference: Itay Evron and others, *Continual Learning in Linear Classification on Separable Data*, ICML
    2023, arXiv:2306.03534.
    """
    rows, weights = _signed(*task), np.asarray(w, "float64")
    if weights.shape != rows.shape[1:]:
        raise ValueError(
            f"`w` must have a weight per feature. Received: w of shape {weights.shape} for samples with "
            f"{rows.shape[1]} features"
        )
    return float(np.max(np.maximum(1.0 - rows @ weights, 0.0), initial=0.0) ** 2)


def _signed(x, y):
    """The samples times their labels."""
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.isin(y, (-1, 1)).all():
        raise ValueError(
            "A task must be samples (samples, dim) and labels -1 or 1, (samples,). Received: samples of "
            f"shape {x.shape} and labels of shape {y.shape}, {np.unique(y)[:5]}"
        )
    return y[:, None] * x


def _shortest(rows, least):
    """The shortest vector `v` with `rows @ v >= least`, or None; least-distance programming by NNLS."""
    if not (least > 0).any():
        return np.zeros(rows.shape[1])
    scale, size = np.abs(rows).max(), least.max()
    if scale == 0:
        return None
    system = np.concatenate([rows.T / scale, least[None, :] / size])
    lengths = np.linalg.norm(system, axis=0)
    system = system[:, lengths > 0] / lengths[lengths > 0]
    target = np.zeros(len(system))
    target[-1] = 1.0
    residual = system @ _nonnegative_least_squares(system, target) - target
    # The last entry is -1 / (1 + |v|²).
    if -residual[-1] * (1.0 + _LONGEST**2) < 1.0:
        return None
    return -residual[:-1] / residual[-1] * (size / scale)


def _nonnegative_least_squares(system, target):
    """`argmin |system @ u - target|` over `u >= 0`, by Lawson and Hanson's active sets."""
    count = system.shape[1]
    u, active = np.zeros(count), np.zeros(count, bool)
    for _ in range(30 * count):
        slope = system.T @ (target - system @ u)
        slope[active] = -np.inf
        entering = int(np.argmax(slope))
        if slope[entering] <= 1e-12:
            break
        active[entering] = True
        while True:
            trial = np.zeros(count)
            trial[active] = np.linalg.lstsq(system[:, active], target, rcond=None)[0]
            blocked = active & (trial <= 0)
            if not blocked.any():
                u = trial
                break
            # As far towards the trial as no entry becomes negative.
            share = np.min(u[blocked] / np.maximum(u[blocked] - trial[blocked], 1e-300))
            u = u + share * (trial - u)
            active &= u > 1e-14 * np.abs(u).max(initial=0.0)
            u[~active] = 0.0
            if not active.any():
                break
    return u
