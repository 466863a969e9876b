"""How well a score tells data of another kind apart."""

import math
from typing import Any, NamedTuple

import numpy as np


class OutOfDistributionScores(NamedTuple):
    """What `out_of_distribution_scores` measures.

    Attributes:
        auroc: Area under the ROC curve.
        aupr_in: Average precision with data of the distribution as positives.
        aupr_out: Average precision with other data as positives, found by low scores.
        fpr95: Share of other data above the threshold that keeps 95 % of the data of the distribution.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95: float


def out_of_distribution_scores(in_scores: Any, out_scores: Any) -> OutOfDistributionScores:
    r"""How well a score tells data out of the distribution from data in it: AUROC, two average precisions, FPR95.

    For scores that are higher for data of the distribution, such as the maximal probability $\max_k p_k$ or the
    negative energy $\log\sum_k e^{z_k}$,

    - AUROC is the probability that a sample in the distribution has the larger score, of ties half;
    - the average precisions are $\sum_t (R_t - R_{t-1}) P_t$ over the distinct thresholds $t$, for precision $P$
      and recall $R$ of either kind as positives: they depend on how many there are of each;
    - FPR95 is the share of other data with a score of at least the $\lceil 0.95 n \rceil$-th largest of the $n$ in
      the distribution.

    Args:
        in_scores: Scores `(n,)` of data in the distribution, the higher the more so.
        out_scores: Scores `(m,)` of other data.

    Returns:
        A named tuple of floats, `auroc`, `aupr_in`, `aupr_out` and `fpr95`.

    Raises:
        ValueError: If scores are no vectors, there are none, or some are NaN.

    Cost: a sort of all scores.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    known, other = 1.5 + np.random.normal(size=500), np.random.normal(size=300)
    result = kr.analysis.out_of_distribution_scores(known, other)
    print(result.auroc, result.fpr95)  # About 0.86 and 0.55.
    ```

    Reference: Dan Hendrycks and Kevin Gimpel, *A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks*, ICLR 2017, arXiv:1610.02136; FPR95: Shiyu Liang, Yixuan Li and R. Srikant,
    *Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks*, ICLR 2018,
    arXiv:1706.02690.
    """
    inside, outside = _vector("in_scores", in_scores), _vector("out_scores", out_scores)
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    threshold = np.sort(inside)[len(inside) - math.ceil(0.95 * len(inside) - 1e-9)]
    return OutOfDistributionScores(
        auroc=float(below.mean() / (2 * len(outside))),
        aupr_in=_average_precision(inside, outside),
        aupr_out=_average_precision(-outside, -inside),
        fpr95=float(np.mean(outside >= threshold)),
    )


def _vector(name, scores):
    scores = np.asarray(scores, "float64")
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim != 1 or not scores.size or np.isnan(scores).any():
        raise ValueError(
            f"`{name}` must be a vector of at least one score, none of them NaN. Received: "
            f"{name}.shape={scores.shape} with {np.isnan(scores).sum()} that are NaN"
        )
    return scores


def _average_precision(positives, negatives):
    thresholds = np.unique(positives)[::-1]
    true = len(positives) - np.searchsorted(np.sort(positives), thresholds, "left")
    false = len(negatives) - np.searchsorted(np.sort(negatives), thresholds, "left")
    return float(np.sum(np.diff(true, prepend=0) * true / (true + false)) / len(positives))
