"""What a Brier score is made of."""

from typing import Any, NamedTuple

import numpy as np

from keras_regularize.analysis.calibration._samples import (
    class_probabilities,
    class_samples,
    uniform_bins,
)
from keras_regularize.validation import check_integer


class BrierDecomposition(NamedTuple):
    """What `brier_decomposition` measures.

    Attributes:
        reliability: Mean squared gap between forecasts and frequencies, at least 0; 0 is calibrated.
        resolution: How far the frequencies are from the base rate, at least 0; the more the better.
        uncertainty: Variance of the labels, which no forecast changes.
    """

    reliability: float
    resolution: float
    uncertainty: float


def brier_decomposition(y_true: Any, y_pred: Any, num_bins: int = 10) -> BrierDecomposition:
    r"""Takes the Brier score of two classes apart: calibration, discrimination, and what nothing can change.

    With bins $b$ of forecasts, their share $w_b$ of the samples, mean forecast $\bar p_b$ and frequency
    $\bar o_b$ of class 1, and the base rate $\bar o$,

    $$\text{Brier} = \underbrace{\sum_b w_b (\bar p_b - \bar o_b)^2}_\text{reliability}
      - \underbrace{\sum_b w_b (\bar o_b - \bar o)^2}_\text{resolution}
      + \underbrace{\bar o (1 - \bar o)}_\text{uncertainty},$$

    exactly if all forecasts of a bin are replaced by their mean. This is the mean of $(p_i - o_i)^2$, half of
    `metrics.BrierScore`, which sums over both classes.

    Args:
        y_true: Labels 0 and 1, `(n,)` or `(n, 1)`; or rows `(n, 2)`.
        y_pred: Probabilities of class 1, `(n,)` or `(n, 1)`; or of both classes `(n, 2)`.
        num_bins: Number of bins, equal parts of $[0, 1]$ that are closed on the right, a positive integer.

    Returns:
        A named tuple of floats, `reliability`, `resolution` and `uncertainty`.

    Raises:
        ValueError: If there are more than two classes; if shapes do not fit, there is no sample, labels are no
            classes, or probabilities none.

    Cost: a few passes over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    p = np.random.uniform(size=1000)
    y = np.random.uniform(size=1000) < p
    parts = kr.analysis.brier_decomposition(y, p)
    brier = parts.reliability - parts.resolution + parts.uncertainty  # About 1/6, the mean of p (1 - p).
    ```

    Reference: Allan H. Murphy, *A New Vector Partition of the Probability Score*, Journal of Applied Meteorology
    1973.
    """
    check_integer("num_bins", num_bins, minimum=1)
    rows, scores = class_samples(y_true, y_pred)
    if rows.shape[1] != 2:
        raise ValueError(
            "Expected probabilities of two classes. Received: "
            f"y_pred.shape={np.shape(y_pred)}. Pass one class at a time, `(y == k, p[:, k])`"
        )
    p, observed = class_probabilities(scores, False)[:, 1], rows[:, 1]
    bins = uniform_bins(p, num_bins)
    count = np.bincount(bins, minlength=num_bins)
    divisor, share, rate = np.maximum(count, 1), count / count.sum(), observed.mean()
    forecast = np.bincount(bins, p, num_bins) / divisor
    frequency = np.bincount(bins, observed, num_bins) / divisor
    return BrierDecomposition(
        reliability=float(share @ (forecast - frequency) ** 2),
        resolution=float(share @ (frequency - rate) ** 2),
        uncertainty=float(rate * (1.0 - rate)),
    )
