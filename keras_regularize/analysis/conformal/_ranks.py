"""Which of the ordered scores of calibration samples is the quantile of a new one."""

import numpy as np


def check_levels(levels):
    """`levels` as an array."""
    levels = np.atleast_1d(np.asarray(levels, "float64"))
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"`levels` must be numbers above 0 and below 1. Received: levels={levels}")
    return levels


def conformal_rank(count, levels):
    """⌈(n+1)α⌉, which may be more than the `count` of samples."""
    return np.ceil((count + 1) * levels - 1e-9)  # 10 · 0.3 is a little more than 3.


def conformal_index(count, levels):
    """Position of that one of `count` ordered numbers, the last if there are not so many."""
    return np.clip(conformal_rank(count, levels), 1, count).astype(int) - 1


def check_scores(scores):
    """Float64 scores `(n,)`, at least one and none of them NaN."""
    scores = np.asarray(scores, "float64")
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim != 1 or not scores.size or np.isnan(scores).any():
        raise ValueError(
            "Expected scores (n,) of at least one calibration sample, none of them NaN. Received: "
            f"scores.shape={scores.shape} with {np.isnan(scores).sum()} that are NaN"
        )
    return scores
