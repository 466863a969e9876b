"""Predicted quantiles that are moved until they hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_regularize.analysis.conformal._ranks import check_levels, conformal_index


class ConformalQuantiles:
    r"""Moves predicted quantiles so that they hold on data that was not trained on.

    For each level $\alpha_j$ with predicted quantiles $\hat q_j(x_i)$ of $n$ calibration samples,

    $$\hat q_j(x) + s_{(\lceil (n+1)\alpha_j \rceil)}, \qquad s_i = y_i - \hat q_j(x_i),$$

    with $s_{(1)} \le s_{(2)} \le \dots$: a new target, exchangeable with those of the calibration, is below with a
    probability of at least $\alpha_j$, as long as the index is at most $n$. Above that the largest score is taken,
    of level $n / (n + 1)$ only. All inputs are moved alike, and moved quantiles may cross.

    Computed in float64. `offsets_` has what is added once it is fitted.

    Args:
        levels: The levels $\alpha_j$ `(levels,)`, between 0 and 1.

    Raises:
        ValueError: If a level is out of range; if it is used before `fit`.

    Cost: a sort of the calibration samples per level.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.normal(size=500)
    predicted = np.tile([-0.5, 0.5], (500, 1))  # Too narrow for 90 %.
    conformal = kr.analysis.ConformalQuantiles([0.05, 0.95]).fit(y[:250], predicted[:250])
    low, high = conformal.quantile(predicted[250:]).T  # About -1.64 and 1.64.
    ```

    Reference: Yaniv Romano, Evan Patterson and Emmanuel J. Candès, *Conformalized Quantile Regression*, NeurIPS
    2019, arXiv:1905.03222; here for each quantile by itself, as in Victor Dheur and Souhaib Ben Taieb, *A
    Large-Scale Study of Probabilistic Calibration in Neural Network Regression*, ICML 2023, arXiv:2306.02738.
    """

    def __init__(self, levels: Sequence[float]):
        self.levels = [float(level) for level in check_levels(levels)]

    def fit(self, y: Any, quantiles: Any) -> "ConformalQuantiles":
        """Learns how far to move each quantile.

        Args:
            y: Targets `(n,)` or `(n, 1)` that were not trained on.
            quantiles: Predicted quantiles `(n, levels)`.

        Returns:
            The object itself.
        """
        y, quantiles = np.asarray(y, "float64"), self._check(quantiles)
        if y.shape not in (quantiles.shape[:1], (len(quantiles), 1)) or not y.size:
            raise ValueError(
                "Expected targets (n,) or (n, 1) for quantiles (n, levels). Received: "
                f"y.shape={y.shape}, quantiles.shape={quantiles.shape}"
            )
        scores = np.sort(y.reshape(-1, 1) - quantiles, axis=0)
        if np.isnan(scores[-1]).any():
            raise ValueError("Expected targets and quantiles without NaN.")
        index = conformal_index(len(scores), np.array(self.levels))
        self.offsets_ = scores[index, np.arange(len(index))]
        return self

    def quantile(self, quantiles: Any) -> np.ndarray:
        """The moved quantiles.

        Args:
            quantiles: Predicted quantiles `(n, levels)`.

        Returns:
            Quantiles of the same shape.
        """
        if not hasattr(self, "offsets_"):
            raise ValueError("`ConformalQuantiles` has to learn its offsets first: call `fit`.")
        return self._check(quantiles) + self.offsets_

    def _check(self, quantiles):
        quantiles = np.asarray(quantiles, "float64")
        if quantiles.ndim != 2 or quantiles.shape[1] != len(self.levels):
            raise ValueError(
                f"Expected quantiles (n, {len(self.levels)}), one for each level. "
                f"Received: quantiles.shape={quantiles.shape}"
            )
        return quantiles
