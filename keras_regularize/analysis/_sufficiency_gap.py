"""How much of what two views share a contrastive encoder misses."""

from typing import Any, NamedTuple

import numpy as np

from keras_regularize.losses.contrastive.f_divergence import DIVERGENCES
from keras_regularize.validation import check_choice


class SufficiencyGap(NamedTuple):
    """What `sufficiency_gap` measures.

    Attributes:
        gap: How far the loss of the scores is above that of the best ones, at least 0.
        information: The f-information that the views share, which is minus the loss of the best scores.
    """

    gap: float
    information: float


def sufficiency_gap(scores: Any, joint: Any, divergence: str = "kl") -> SufficiencyGap:
    r"""How far scores of pairs of views are from sufficient: their contrastive loss above that of the best scores.

    Where the joint distribution $p_{ij}$ of two views is known, so is the least value that a contrastive loss can
    have. With the marginals $p_i$ and $q_j$, the conjugate $f^*$ of $f$, and the loss of
    `losses.FDivergenceContrastive` over all pairs,

    $$R(s) = -\sum_{ij} p_{ij} s_{ij} + \sum_i p_i \min_c \Big\{ \sum_j q_j f^*(s_{ij} - c) + c \Big\}, \qquad
      \min_s R(s) = -I = -\sum_{ij} p_i q_j\, f\Big(\frac{p_{ij}}{p_i q_j}\Big),$$

    and the gap is $R(s) + I$. It is 0 if and only if $s_{ij} = f'(p_{ij} / p_i q_j)$ up to a constant for each
    row, and at least the information $I(X; Y) - I(T(X); Y)$ that is lost by what the encoder $T$ makes of the
    first view: Lin and Mei bound by it what features are worth for later tasks. The loss of a batch lacks this
    zero: there each sample has one partner, for which scores can be as large as one likes.

    There are such distributions where a finite set of views is known, as words and topics, and where the density
    of the augmentation is: of views $a_i$, $b_j$ of $n$ samples $x_k$ it is proportional to
    $\sum_k r_{ik} r'_{jk}$, with the share $r_{ik} = p(a_i | x_k) / \sum_l p(a_i | x_l)$ of each sample in a view.
    `"reverse_kl"` needs all pairs to be possible; else the information is infinite.

    Args:
        scores: $s$, `(rows, columns)`: similarities over the temperature.
        joint: $p$, of the same shape: numbers of at least 0, which are divided by their sum.
        divergence: $f$, as in `losses.FDivergenceContrastive`.

    Returns:
        A named tuple of floats, `gap` and `information`.

    Raises:
        ValueError: If `divergence` is unknown, shapes differ, scores are not finite, or `joint` has a negative
            number or the sum 0.

    Cost: a few passes over the pairs in float64, and sixty with `"hellinger"` and `"reverse_kl"`.

    Example:

    ```python
    import numpy as np
    import scipy.special
    import keras_regularize as kr

    x = np.random.normal(size=(200, 8))
    a, b = x + 0.5 * np.random.normal(size=(2, 200, 8))

    def shares(views):  # Of Gaussian noise.
        squares = np.sum((views[:, None] - x) ** 2, axis=-1)
        return scipy.special.softmax(-squares / (2 * 0.5**2), axis=1)

    scores = 2.0 * a[:, :4] @ b[:, :4].T  # Of features that are half of the inputs.
    gap, information = kr.analysis.sufficiency_gap(scores, shares(a) @ shares(b).T)
    ```

    Reference: Licong Lin and Song Mei, *A Statistical Theory of Contrastive Learning via Approximate Sufficient
    Statistics*, 2025, arXiv:2503.17538. Their definition; that it is computed for a known joint distribution is
    this package's own.
    """
    check_choice("divergence", divergence, DIVERGENCES)
    s, p = np.asarray(scores, "float64"), np.asarray(joint, "float64")
    if s.ndim != 2 or s.shape != p.shape or not s.size:
        raise ValueError(
            "Expected scores and a joint distribution of the same shape (rows, columns). "
            f"Received shapes: {s.shape} and {p.shape}"
        )
    if not (np.isfinite(s).all() and np.isfinite(p).all() and (p >= 0).all() and p.sum() > 0):
        raise ValueError(
            "Expected finite scores, and a joint distribution of numbers of at least 0, some of them above. "
            f"Received: scores from {s.min()} to {s.max()}, joint from {p.min()} to {p.max()}"
        )
    p = p / p.sum()
    # What never occurs has no part in any sum.
    occur = np.ix_(p.sum(axis=1) > 1e-100, p.sum(axis=0) > 1e-100)
    s, p = s[occur], p[occur]
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    independent = rows[:, None] * columns
    information = float(np.sum(independent * _f(p / independent, divergence)))
    top = s.max(axis=1)
    below = top[:, None] - s
    # Without the largest score of each row, so that no digits are lost.
    gap = information + rows @ _best(below, columns, divergence) + np.sum(p * below)
    return SufficiencyGap(max(0.0, float(gap)), information)


def _f(ratio, divergence):
    with np.errstate(divide="ignore", invalid="ignore"):
        if divergence == "kl":
            return np.where(ratio > 0, ratio * np.log(ratio), 0.0)
        if divergence == "chi_square":
            return 0.5 * (ratio - 1.0) ** 2
        if divergence == "hellinger":
            return (1.0 - np.sqrt(ratio)) ** 2
        return -np.log(ratio)


def _best(below, weights, divergence):
    """The minimum over shifts of the mean conjugate of `-below`, for each row."""
    if divergence == "kl":
        return np.log(np.exp(-below) @ weights)
    if divergence == "chi_square":
        middle = below @ weights
        return 0.5 * (below - middle[:, None]) ** 2 @ weights - middle
    if divergence == "hellinger":
        shift = _shift(below, weights, 2)
        return (1.0 / (below + shift[:, None])) @ weights + shift - 2.0
    shift = _shift(below, weights, 1)
    return shift - 1.0 - np.log(below + shift[:, None]) @ weights


def _shift(below, weights, power):
    """The `t` between 0 and 1 at which the mean of `(below + t)^-power` is 1, by bisection."""
    low, high = np.zeros(len(below)), np.ones(len(below))
    for _ in range(60):
        middle = 0.5 * (low + high)
        too_far = (below + middle[:, None]) ** -power @ weights < 1.0
        low, high = np.where(too_far, low, middle), np.where(too_far, middle, high)
    return high
