"""Which of the ordered scores of calibration samples is the quantile of a new one."""

import numpy as np


def check_levels(levels):
    levels = np.atleast_1d(np.asarray(levels, "float64"))
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"`levels` must be numbers above 0 and below 1. Received: levels={levels}")
    return levels


def conformal_index(count, levels):
    """Position of the ⌈(n+1)α⌉-th smallest of `count` numbers, the last if there are not so many."""
    rank = np.ceil((count + 1) * levels - 1e-9)  # 10 · 0.3 is a little more than 3.
    return np.clip(rank, 1, count).astype(int) - 1
