"""The best linear representation of a given rank for the worst of a class of linear tasks, in closed form."""

from typing import Any

import numpy as np

from keras_regularize.validation import check_integer


def minimax_linear_regret(
    covariance: Any, prior: Any, rank: int, randomized: bool = False
) -> float:
    r"""How much worse predictions from a representation of rank $r$ are than from the inputs, at the worst task.

    For inputs of covariance $\Sigma$, tasks $y = f^\top x + \text{noise}$ with $f^\top S^{-1} f \le 1$, and the
    best linear prediction from $R^\top x$, $R$ of $r$ columns, by the squared error, the regret is that of

    $$\min_R \max_f\; f^\top \big(\Sigma - \Sigma R (R^\top \Sigma R)^{-1} R^\top \Sigma\big) f = \lambda_{r+1},$$

    with the eigenvalues $\lambda_1 \ge \lambda_2 \ge \dots$ of $\Sigma^{1/2} S\, \Sigma^{1/2}$. Who may draw $R$
    at random, unknown to the one who chooses the task, does better: $\max_{\ell > r} (\ell - r) / \sum_{i \le
    \ell} \lambda_i^{-1}$, over the positive eigenvalues.

    Args:
        covariance: $\Sigma$, `(d, d)`, positive semidefinite.
        prior: $S$, `(d, d)`, positive semidefinite.
        rank: $r$, at least 0.
        randomized: Whether $R$ may be random.

    Returns:
        The regret, a float; 0 from the rank of the product of the two on.

    Raises:
        ValueError: If matrices do not fit or are not positive semidefinite, or `rank` is negative.

    Cost: two eigenvalue problems of size `d`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    covariance = np.diag([3.0, 2.0, 1.0])
    kr.analysis.minimax_linear_regret(covariance, np.eye(3), rank=1)  # 2, that of leaving out the second direction
    ```

    Reference: Neria Uzan and Nir Weinberger, *A representation-learning game for classes of prediction tasks*,
    ICLR 2024, arXiv:2403.06971. The value of the randomized game is derived here.
    """
    values, _, _ = _spectrum(covariance, prior)
    rank = check_integer("rank", rank, minimum=0)
    if not randomized:
        return float(values[rank]) if rank < len(values) else 0.0
    return _water_level(values, rank)[0]


def minimax_linear_representation(covariance: Any, prior: Any, rank: int) -> np.ndarray:
    r"""The linear representation of a given rank whose regret at the worst task is least.

    $R = \Sigma^{-1/2} V_{1:r}$ with the first eigenvectors $V$ of $\Sigma^{1/2} S\, \Sigma^{1/2}$; see
    `kr.analysis.minimax_linear_regret`. For $S = I$ it spans what principal components span, and for tasks that
    are known to matter, as the covariance $S$ of the weights of earlier tasks tells, what these need.

    Args:
        covariance: $\Sigma$, `(d, d)`, positive semidefinite.
        prior: $S$, `(d, d)`, positive semidefinite.
        rank: $r$, 0 to `d`.

    Returns:
        $R$, `(d, r)`: features are `x @ R`, uncorrelated and of variance 1 where the covariance has full rank.

    Raises:
        ValueError: If matrices do not fit or are not positive semidefinite, or `rank` is out of range.

    Cost: two eigenvalue problems of size `d`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).normal(size=(100, 4)) * [4, 3, 2, 1]
    r = kr.analysis.minimax_linear_representation(np.cov(x.T), np.diag([0.1, 0.1, 1, 1]), rank=2)
    features = x @ r
    ```

    Reference: Neria Uzan and Nir Weinberger, *A representation-learning game for classes of prediction tasks*,
    ICLR 2024, arXiv:2403.06971.
    """
    values, vectors, root = _spectrum(covariance, prior)
    rank = check_integer("rank", rank, minimum=0, maximum=len(values))
    return root @ vectors[:, :rank]


def randomized_linear_representation(
    covariance: Any, prior: Any, rank: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    r"""Representations, and how often to take each, whose regret at the worst task is least on average.

    With the value $t$ of the game, direction $i$ is kept with the probability $1 - t / \lambda_i$ or never; see
    `kr.analysis.minimax_linear_regret`. Systematic sampling of the directions makes of that a mixture of
    representations of exactly $r$ of them.

    Args:
        covariance: $\Sigma$, `(d, d)`, positive semidefinite.
        prior: $S$, `(d, d)`, positive semidefinite.
        rank: $r$, 0 to `d`.

    Returns:
        `(weights, representations)`: numbers with the sum 1, and as many matrices $R$, `(d, r)`.

    Raises:
        ValueError: If matrices do not fit or are not positive semidefinite, or `rank` is out of range.

    Cost: two eigenvalue problems of size `d`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    weights, choices = kr.analysis.randomized_linear_representation(np.eye(3), np.eye(3), rank=1)
    ```

    Reference: Neria Uzan and Nir Weinberger, *A representation-learning game for classes of prediction tasks*,
    ICLR 2024, arXiv:2403.06971. The mixture is derived here.
    """
    values, vectors, root = _spectrum(covariance, prior)
    rank = check_integer("rank", rank, minimum=0, maximum=len(values))
    level, count = _water_level(values, rank)
    if level == 0:
        return np.ones(1), [root @ vectors[:, :rank]]
    keep = np.zeros(len(values))
    keep[:count] = np.maximum(1.0 - level / values[:count], 0.0)
    # Systematic sampling: on a line of the probabilities, the points u, u + 1, ... with one uniform u.
    ends = np.cumsum(keep)
    cuts = np.unique(np.concatenate([[0.0, 1.0], ends % 1.0]).round(12))
    weights, found = [], []
    for low, high in zip(cuts[:-1], cuts[1:]):
        points = (low + high) / 2 + np.arange(rank)
        chosen = np.searchsorted(ends, points)
        weights.append(high - low)
        found.append(root @ vectors[:, np.minimum(chosen, len(values) - 1)])
    return np.asarray(weights), found


def _spectrum(covariance, prior):
    """Descending eigenvalues and eigenvectors of the product of roots, and the inverse root of the covariance."""
    covariance, prior = (np.asarray(m, "float64") for m in (covariance, prior))
    if covariance.ndim != 2 or not covariance.shape == covariance.shape[::-1] == prior.shape:
        raise ValueError(
            "`covariance` and `prior` must be square matrices of one size. "
            f"Received: shapes {covariance.shape} and {prior.shape}"
        )
    variances, axes = _eigen("covariance", covariance)
    _eigen("prior", prior)
    some = variances > 1e-12 * variances.max(initial=0.0)
    root = axes * np.sqrt(variances) @ axes.T
    inverse = axes * np.where(some, 1.0 / np.sqrt(np.where(some, variances, 1.0)), 0.0) @ axes.T
    values, vectors = np.linalg.eigh(root @ prior @ root)
    values = np.maximum(values[::-1], 0.0)
    return (
        np.where(values > 1e-12 * values.max(initial=0.0), values, 0.0),
        vectors[:, ::-1],
        inverse,
    )


def _eigen(name, matrix):
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    size = np.abs(values).max(initial=0.0)
    if (
        not np.allclose(matrix, matrix.T, atol=1e-6 * size)
        or values.min(initial=0.0) < -1e-6 * size
    ):
        raise ValueError(
            f"`{name}` must be symmetric and positive semidefinite. Received: eigenvalues from "
            f"{values.min(initial=0.0)}, asymmetry {np.abs(matrix - matrix.T).max(initial=0.0)}"
        )
    return np.maximum(values, 0.0), vectors


def _water_level(values, rank):
    """The value of the randomized game, and how many directions share it."""
    best, count = 0.0, rank
    inverse = np.cumsum(1.0 / values[values > 0])
    for size in range(rank + 1, len(inverse) + 1):
        level = (size - rank) / inverse[size - 1]
        if level > best:
            best, count = float(level), size
    return best, count
