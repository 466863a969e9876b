"""The quantile of conformal prediction."""

from typing import Any

import numpy as np

from keras_regularize.analysis.conformal._ranks import check_scores, conformal_rank
from keras_regularize.validation import check_number


def split_conformal_quantile(scores: Any, alpha: float = 0.1) -> float:
    r"""The score that a new sample does not exceed with probability $1 - \alpha$.

    Of $n$ scores of samples that were not trained on, in ascending order,

    $$q = s_{(k)}, \qquad k = \lceil (n + 1)(1 - \alpha) \rceil,$$

    and infinite if $k > n$: so few samples allow no such statement. If a new sample is exchangeable with them, its
    score is at most $q$ with a probability of at least $1 - \alpha$, and of at most $1 - \alpha + 1/(n + 1)$ if no
    scores are equal. That holds over calibration sets and samples together; of a given set, coverages vary by
    about $\sqrt{\alpha(1 - \alpha)/n}$.

    A score says how badly a target fits a prediction. The targets with scores up to $q$ are the prediction set:
    `ConformalClassifier` and `ConformalRegressor` have the usual ones.

    Args:
        scores: Scores of calibration samples `(n,)`.
        alpha: $\alpha$ in (0, 1), the share of samples that may be missed.

    Returns:
        The quantile, a float.

    Raises:
        ValueError: If `alpha` is out of range; if there is no score, or one that is NaN.

    Cost: a sort of the scores.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y, prediction = np.random.normal(size=(2, 500))
    q = kr.analysis.split_conformal_quantile(np.abs(y - prediction), alpha=0.1)
    low, high = prediction - q, prediction + q  # Of 90 % of new samples too.
    ```

    Reference: Vladimir Vovk, Alexander Gammerman and Glenn Shafer, *Algorithmic Learning in a Random World*,
    Springer 2005; Harris Papadopoulos, Kostas Proedrou, Volodya Vovk and Alex Gammerman, *Inductive Confidence
    Machines for Regression*, ECML 2002.
    """
    alpha = check_number("alpha", alpha, above=0, below=1)
    scores = np.sort(check_scores(scores))
    rank = int(conformal_rank(len(scores), 1.0 - alpha))
    return float(scores[rank - 1]) if rank <= len(scores) else np.inf
