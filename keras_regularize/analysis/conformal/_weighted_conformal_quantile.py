"""The quantile of conformal prediction under covariate shift."""

from typing import Any

import numpy as np

from keras_regularize.analysis.conformal._ranks import check_scores
from keras_regularize.validation import check_number


def weighted_conformal_quantile(
    scores: Any, weights: Any, alpha: float = 0.1, test_weight: Any = None
) -> Any:
    r"""The score that a new sample of a shifted population does not exceed with probability $1 - \alpha$.

    If inputs are distributed otherwise than those of the calibration, $p_t(x) \ne p_s(x)$, and labels of a given
    input are not, weigh each calibration sample by $w_i = p_t(x_i) / p_s(x_i)$, and the new one by
    $w = p_t(x) / p_s(x)$: the quantile is

    $$q(x) = \min\Big\{s : \sum_{i:\, s_i \le s} w_i \ge (1 - \alpha)\Big(\sum_i w_i + w\Big)\Big\},$$

    infinite if there is none. With weights that are exact, scores of the new population are at most $q(x)$ with a
    probability of at least $1 - \alpha$. `covariate_shift_weights` estimates them from a classifier;
    `LikelihoodRatioQuantile` does without them. Equal weights give `split_conformal_quantile`.

    Args:
        scores: Scores of calibration samples `(n,)`.
        weights: Their weights `(n,)`, at least 0 and not all 0; a common factor does not matter.
        alpha: $\alpha$ in (0, 1).
        test_weight: Weight of the new sample, a number or `(m,)` for many, on the scale of `weights`. `None` takes
            the largest of `weights`, which is on the safe side of all samples that weigh no more.

    Returns:
        The quantile, a float; or float64 quantiles `(m,)`.

    Raises:
        ValueError: If an argument is out of range; if shapes do not fit; if a score is NaN.

    Cost: a sort of the scores.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x, x_test = np.random.normal(size=500), 1 + np.random.normal(size=300)
    weights, test_weights = np.exp(x - 0.5), np.exp(x_test - 0.5)  # The ratio of the two densities.
    scores = np.abs((1 + x) * np.random.normal(size=500))
    q = kr.analysis.weighted_conformal_quantile(scores, weights, 0.1, test_weights)
    ```

    Reference: Ryan J. Tibshirani, Rina Foygel Barber, Emmanuel J. Candès and Aaditya Ramdas, *Conformal Prediction
    Under Covariate Shift*, NeurIPS 2019, arXiv:1904.06019.
    """
    alpha = check_number("alpha", alpha, above=0, below=1)
    scores, weights = check_scores(scores), np.asarray(weights, "float64")
    if weights.ndim == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    inside = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if weights.shape != scores.shape or not inside:
        raise ValueError(
            "Expected weights (n,), one for each score, finite, at least 0 and not all 0. Received: "
            f"weights.shape={weights.shape}, scores.shape={scores.shape}, weights={weights}"
        )
    new = weights.max() if test_weight is None else np.asarray(test_weight, "float64")
    if np.ndim(new) > 1 or not (np.isfinite(new) & (new >= 0)).all():
        raise ValueError(
            "`test_weight` must be a finite number of at least 0, or a vector of such. Received: "
            f"test_weight={test_weight!r}"
        )
    order = np.argsort(scores)
    mass = np.cumsum(weights[order])
    needed = (1.0 - alpha) * (mass[-1] + new)
    index = np.searchsorted(mass, needed - 1e-9 * mass[-1])
    quantile = np.append(scores[order], np.inf)[index]
    return float(quantile) if np.ndim(new) == 0 else quantile
