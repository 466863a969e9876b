"""Where the training of a linear generator may stand still."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from keras_regularize.regularizers.bures_wasserstein import check_covariance
from keras_regularize.validation import check_integer, check_number

_MOST = 100_000


class BuresCriticalValues(NamedTuple):
    """What `bures_critical_values` finds.

    Attributes:
        minimum: The least value, a float.
        minimizer: The covariance at which it is taken, `(d, d)`.
        values: The values at all critical points, in ascending order.
        kept: For each of them the tuple of the eigenvalues that it keeps, by their place in descending order.
    """

    minimum: float
    minimizer: np.ndarray
    values: np.ndarray
    kept: list[tuple[int, ...]]


def bures_critical_values(covariance: Any, rank: int, epsilon: float = 0.0) -> BuresCriticalValues:
    r"""The values at which a linear generator trained by the Bures-Wasserstein distance may stand still.

    For the distance of a covariance $\Sigma$ with eigenvalues $\lambda_1 \ge \lambda_2 \dots$ and $\tau \ge 0$,

    $$B^2(\Sigma,\, W W^\top + \tau I) \quad \text{over } W \text{ of rank} \le k,$$

    the critical points keep some set $J$ of at most $k$ eigenvalues, as $\lambda_i - \tau$, and drop the others,
    at the value $\sum_{i \notin J} (\sqrt{\lambda_i} - \sqrt\tau)^2$. The minimum keeps the $k$ largest; the
    others are saddles. What a generator's training ends at is to be compared with these: by
    `kr.regularizers.BuresWasserstein` or `kr.losses.BuresWasserstein`.

    Args:
        covariance: $\Sigma$, a symmetric `(d, d)` matrix without eigenvalues below 0.
        rank: $k$, from 1 to $d$: the smallest width of the generator's layers.
        epsilon: $\tau \ge 0$, at most the smallest eigenvalue.

    Returns:
        A named tuple: the `minimum`, its `minimizer` $W W^\top$, all `values` and what is `kept` at each.

    Raises:
        ValueError: If an argument is out of range, or there are more than 100,000 critical points.

    Cost: an eigendecomposition, and a sum for each critical point.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.bures_critical_values(np.diag([5.0, 3.0, 1.0, 0.5]), rank=2).minimum  # 1.5
    ```

    Reference: Pierre Bréchet, Katerina Papagiannouli, Jing An and Guido Montúfar, *Critical Points and Convergence
    Analysis of Generative Deep Linear Networks Trained with Bures-Wasserstein Loss*, ICML 2023, arXiv:2303.03027.
    """
    matrix = check_covariance(covariance)
    size = len(matrix)
    rank = check_integer("rank", rank, minimum=1, maximum=size)
    epsilon = check_number("epsilon", epsilon, minimum=0)
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if epsilon > values[-1] * (1 + 1e-9):
        raise ValueError(
            f"`epsilon` must be at most the smallest eigenvalue, {values[-1]:g}. Received: epsilon={epsilon}"
        )
    number = sum(math.comb(size, k) for k in range(rank + 1))
    if number > _MOST:
        raise ValueError(
            f"Expected at most {_MOST} critical points. Received: {number}, of a rank up to {rank} in {size} "
            "dimensions"
        )
    losses = np.square(np.sqrt(values) - math.sqrt(epsilon))
    kept = [chosen for k in range(rank + 1) for chosen in itertools.combinations(range(size), k)]
    found = np.array([losses.sum() - losses[list(chosen)].sum() for chosen in kept])
    found = np.maximum(found, 0.0)
    order = np.argsort(found, kind="stable")
    best = vectors[:, :rank]
    return BuresCriticalValues(
        float(losses[rank:].sum()),
        (best * (values[:rank] - epsilon)) @ best.T,
        found[order],
        [kept[i] for i in order],
    )
