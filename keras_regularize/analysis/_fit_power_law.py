"""Scaling laws: the loss that infinite size would reach."""

import warnings
from typing import Any, NamedTuple

import numpy as np

_LEAST, _MOST = 0.01, 3.0


class PowerLaw(NamedTuple):
    """What `fit_power_law` finds.

    Attributes:
        amplitude: $A$ of $A N^{-\\alpha} + E$.
        exponent: $\\alpha$.
        asymptote: $E$, the loss at infinite size.
    """

    amplitude: float
    exponent: float
    asymptote: float


def fit_power_law(sizes: Any, losses: Any) -> PowerLaw:
    r"""Fits $A N^{-\alpha} + E$ to losses at several sizes, to compare recipes by what they would reach.

    Sizes are numbers of parameters, of samples, or of members of an ensemble. The fit is least squares with
    $A, E \ge 0$ and $0.01 \le \alpha \le 3$; for a given exponent it is solved exactly, and the exponent is
    searched on a fine grid and refined, so that there is no starting point to choose. It does not
    depend on the unit of the sizes.

    Three numbers from a few points are uncertain, the asymptote most of all: fit again without each point in
    turn and look at the range, as in the example. A warning says if the losses do not fall, the exponent is at a
    bound or the asymptote is 0, that is if the points do not determine the law.

    Args:
        sizes: $N$, positive, at least three different ones.
        losses: The loss at each size.

    Returns:
        A named tuple of three floats, `amplitude`, `exponent` and `asymptote`.

    Raises:
        ValueError: If shapes do not match, numbers are not finite, sizes are not positive, or there are fewer
            than three of them.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    sizes = np.array([100.0, 200.0, 400.0, 800.0])
    losses = 2.5 * sizes**-0.5 + 3.0
    law = kr.analysis.fit_power_law(sizes, losses)  # (2.5, 0.5, 3.0)
    kept = [np.arange(4) != i for i in range(4)]
    asymptotes = [kr.analysis.fit_power_law(sizes[k], losses[k]).asymptote for k in kept]
    ```

    Reference: Konwoo Kim, Suhas Kotha, Percy Liang and Tatsunori Hashimoto, *Pre-training under infinite
    compute*, 2025, arXiv:2509.14786, which compares training recipes and ensembles by the asymptote.
    """
    sizes, losses = np.asarray(sizes, "float64"), np.asarray(losses, "float64")
    if sizes.ndim != 1 or sizes.shape != losses.shape:
        raise ValueError(
            "`sizes` and `losses` must be vectors of the same length. Received shapes "
            f"{sizes.shape} and {losses.shape}"
        )
    if not (np.isfinite(sizes).all() and np.isfinite(losses).all() and (sizes > 0).all()):
        raise ValueError(
            "`sizes` must be positive and all numbers finite. Received: "
            f"sizes={sizes.tolist()}, losses={losses.tolist()}"
        )
    if len(np.unique(sizes)) < 3:
        raise ValueError(
            f"A power law needs at least three different sizes. Received: sizes={sizes.tolist()}"
        )
    logs = np.log(sizes / sizes[0])
    grid = np.geomspace(_LEAST, _MOST, 400)
    errors = [_solve(logs, losses, exponent)[0] for exponent in grid]
    best = int(np.argmin(errors))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    exponent = _minimize(lambda e: _solve(logs, losses, e)[0], low, high)
    _, amplitude, asymptote = _solve(logs, losses, exponent)
    drop = amplitude * np.ptp(np.exp(-exponent * logs))
    flat = drop <= 1e-9 * np.abs(losses).max()
    if (
        flat
        or asymptote <= 1e-9 * np.abs(losses).max()
        or min(exponent - _LEAST, _MOST - exponent) < 1e-6
    ):
        warnings.warn(
            "The losses do not determine a power law: they do not fall, or its exponent is at a bound, or "
            "its asymptote is 0. "
            f"Received: sizes={sizes.tolist()}, losses={losses.tolist()}"
        )
    return PowerLaw(float(amplitude * sizes[0] ** exponent), float(exponent), float(asymptote))


def _solve(logs, losses, exponent):
    """`(squared error, A, E)` of the best non-negative `A exp(-exponent logs) + E`."""
    decay = np.exp(-exponent * logs)
    centred = decay - decay.mean()
    amplitude = max(centred @ losses / (centred @ centred), 0.0)
    asymptote = losses.mean() - amplitude * decay.mean()
    if asymptote < 0:
        amplitude, asymptote = max(decay @ losses / (decay @ decay), 0.0), 0.0
    rest = losses - amplitude * decay - asymptote
    return rest @ rest, amplitude, asymptote


def _minimize(function, low, high, steps=60):
    """The minimum between two bounds by golden sections."""
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(steps):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if function(left) < function(right):
            high = right
        else:
            low = left
    return (low + high) / 2
