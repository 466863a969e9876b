"""Sparse relatives of softmax: projections onto the simplex that put exact zeros.

Each function finds the probabilities without gradient and attaches the Jacobian in
`_differentiable`, so no backend differentiates through a sort or a bisection.
"""

from typing import Any

import keras
from keras import ops

from keras_regularize.activations._operation import ActivationOperation
from keras_regularize.numerics import as_float, cumsum, maximum, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
def entmax(x: Any, alpha: float = 1.5, axis: int = -1) -> Any:
    r"""Entmax, a softmax that gives exactly zero probability to low scores.

    The transform between softmax (`alpha=1`) and sparsemax (`alpha=2`), for sparse attention and
    sparse class probabilities:

    $$p_i = \big[(\alpha - 1)\,x_i - \tau\big]_+^{1 / (\alpha - 1)},
      \qquad \tau \text{ such that } \sum_i p_i = 1.$$

    It is the maximiser of $\langle p, x \rangle + H_\alpha(p)$ over the simplex, with the Tsallis
    entropy $H_\alpha(p) = \frac{1}{\alpha (\alpha - 1)} \sum_i (p_i - p_i^\alpha)$. The larger
    $\alpha$, the sparser: a score that lies $1 / (\alpha - 1)$ below the largest is certainly 0.
    Adding a constant to all scores changes nothing, and equal scores get equal probabilities.

    The gradient is exact to first order: with $s_i = p_i^{2 - \alpha}$ on the support and 0
    elsewhere, the Jacobian is $\operatorname{diag}(s) - s s^\top / \sum_i s_i$. Second derivatives
    are not those of entmax, except for `alpha=1`.

    Args:
        x: Scores, a float tensor of any shape. Entries of `-inf` (masked positions) get probability
            0.
        alpha: Sparsity $\alpha$, a Python number of at least 1. 1.5 and 2 are solved exactly with
            one sort, other values by iterations. `kr.activations.Entmax(alpha)` is the same function as an
            object that is saved with its $\alpha$; `kr.layers.Entmax` can learn it.
        axis: Axis along which the result sums to 1.

    Returns:
        Probabilities with the shape and dtype of `x`. Half-precision input is computed in float32.

    Raises:
        ValueError: If `alpha` is below 1.

    Cost: one sort of the scores for `alpha` 1.5 and 2; for other values below 2 ten steps with two exponentials of
    the scores each, above 2 with one in 30 steps (12 and 50 in float64).

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    p = kr.activations.entmax(np.array([[2.0, 1.0, -1.0]], "float32"))  # the last entry is 0
    layer = keras.layers.Dense(10, activation=kr.activations.entmax)
    ```

    Reference: Ben Peters, Vlad Niculae and André F. T. Martins, *Sparse Sequence-to-Sequence Models*, ACL 2019,
    arXiv:1905.05702. André F. T. Martins and Ramón Astudillo, *From Softmax to Sparsemax: A Sparse Model of
    Attention and Multi-Label Classification*, ICML 2016, arXiv:1602.02068.
    """
    check_number("alpha", alpha, minimum=1)
    if isinstance(x, keras.KerasTensor):
        return Entmax(alpha, axis)(x)
    x = as_float(x)
    if 0 in x.shape:  # The maximum of an empty batch raises on TensorFlow.
        return x
    scores = ops.moveaxis(upcast(x), axis, -1)
    p = ops.softmax(scores, axis=-1) if alpha == 1 else _entmax(scores, float(alpha))
    return ops.cast(ops.moveaxis(p, -1, axis), x.dtype)


@export
class Entmax(ActivationOperation):
    r"""Entmax with an $\alpha$ of its own, as an activation that is saved with the layer that has it.

    $$p_i = \big[(\alpha - 1)\,x_i - \tau\big]_+^{1 / (\alpha - 1)},
      \qquad \tau \text{ such that } \sum_i p_i = 1.$$

    `kr.activations.entmax` of a layer's `activation=` has its default $\alpha$; this object carries another one
    into the layer's config. See there for what it computes. `kr.layers.Entmax` can learn $\alpha$.

    Args:
        alpha: Sparsity $\alpha$, at least 1: 1 is softmax, 2 is sparsemax.
        axis: Axis along which the result sums to 1.
        name: Name of the operation.

    Input: scores, a float tensor of any shape. Output: probabilities with its shape and dtype.

    Raises:
        ValueError: If `alpha` is below 1.

    Cost: that of `kr.activations.entmax`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(10, activation=kr.activations.Entmax(alpha=1.3))
    ```

    Reference: Ben Peters, Vlad Niculae and André F. T. Martins, *Sparse Sequence-to-Sequence Models*, ACL 2019,
    arXiv:1905.05702.
    """

    def __init__(self, alpha: float = 1.5, axis: int = -1, name: str | None = None):
        super().__init__(name=name)
        self.alpha = check_number("alpha", alpha, minimum=1)
        self.axis = axis

    def call(self, x: Any) -> Any:
        return entmax(x, self.alpha, self.axis)


@export
def sparsemax(x: Any, axis: int = -1) -> Any:
    r"""Sparsemax, the Euclidean projection of scores on the probability simplex.

    $$\operatorname{sparsemax}(x) = \arg\min_{p \in \Delta} \|p - x\|^2 = [x - \tau]_+,
      \qquad \tau \text{ such that } \sum_i p_i = 1.$$

    A softmax with exact zeros, for sparse attention and sparse class probabilities: `entmax` with
    `alpha=2`. A score that lies 1 below the largest is certainly 0; two scores give the hard sigmoid of
    their difference, $(x_1 - x_2 + 1) / 2$ clipped to $[0, 1]$. To train a classifier with it use
    `kr.losses.Sparsemax` on its logits. `keras.activations.sparsemax` of Keras 3.15 gives other numbers: it
    does not project as soon as two entries are positive.

    Args:
        x: Scores, a float tensor of any shape. Entries of `-inf` (masked positions) get probability 0.
        axis: Axis along which the result sums to 1.

    Returns:
        Probabilities with the shape and dtype of `x`. Half-precision input is computed in float32.

    Cost: one sort of the scores. Its first derivative is exact, higher ones are not.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    p = kr.activations.sparsemax(np.array([[0.5, 0.3, -1.0]], "float32"))  # 0.6, 0.4, 0
    layer = keras.layers.Dense(10, activation=kr.activations.sparsemax)
    ```

    Reference: André F. T. Martins and Ramón Astudillo, *From Softmax to Sparsemax: A Sparse Model of
    Attention and Multi-Label Classification*, ICML 2016, arXiv:1602.02068.
    """
    return entmax(x, alpha=2.0, axis=axis)


def _entmax(x, alpha):
    """Entmax over the last axis of float32 or float64 scores, for `alpha` above 1."""
    return _differentiable(x, entmax_probabilities(x, alpha), alpha)


def entmax_probabilities(x, alpha):
    """Entmax over the last axis for `alpha` above 1, without gradient."""
    scores = _bounded(x, alpha)
    if alpha == 2.0:
        p = _sparsemax_probabilities(scores)
    elif alpha == 1.5:
        p = _entmax15_probabilities(scores)
    elif alpha < 2.0:
        p = _newton_probabilities(scores, alpha)
    else:
        p = _bisected_probabilities(scores, alpha)
    # What rounding leaves in the threshold goes to all entries alike.
    return p / ops.sum(p, axis=-1, keepdims=True)


def _bounded(x, alpha):
    """Scores less their largest, finite also for masks of -inf, without gradient."""
    scores = ops.stop_gradient(x)
    # Nothing at 1 / (alpha - 1) has probability; at twice that, rounding gives it none.
    return maximum(scores - ops.amax(scores, axis=-1, keepdims=True), -2.0 / (alpha - 1.0))


def _sparsemax_probabilities(scores):
    """Euclidean projection on the simplex: the threshold is the largest of all prefixes'."""
    ordered, count = _descending(scores)
    thresholds = (cumsum(ordered) - 1.0) / count
    return ops.relu(scores - ops.amax(thresholds, axis=-1, keepdims=True))


def _entmax15_probabilities(scores):
    """Closed form for 1.5: the threshold of a prefix of the sorted scores is a quadratic root."""
    ordered, count = _descending(scores / 2.0)
    centre = cumsum(ordered) / count
    scatter = cumsum(ordered * ordered) - count * centre * centre
    thresholds = centre - ops.sqrt(ops.relu((1.0 - scatter) / count))
    # The support is a prefix, along which thresholds rise; behind it they are above the score.
    threshold = ops.amax(ops.where(thresholds <= ordered, thresholds, -1.0), axis=-1, keepdims=True)
    return ops.square(ops.relu(scores / 2.0 - threshold))


def _newton_probabilities(scores, alpha):
    r"""Newton's method for the shift $c$ of $p_i = (1 + (\alpha - 1)(x_i - c))_+^{1 / (\alpha - 1)}$.

    For $\alpha < 2$ the sum of probabilities to the power of $\alpha - 1$ is a norm of what is raised, so it is
    convex in $c$, and linear for equal scores: steps from the left never overshoot. Ten of them reach what float32
    holds for every $\alpha$, as 30 halvings do.
    """
    gap = alpha - 1.0
    steps = 12 if keras.backend.standardize_dtype(scores.dtype) == "float64" else 10

    def step(_, shift):
        log_p, inside = _log_probabilities(scores - shift, gap)
        total = ops.sum(ops.where(inside, ops.exp(log_p), 0.0), axis=-1, keepdims=True)
        slope = ops.where(inside, ops.exp((1.0 - gap) * log_p), 0.0)
        slope = ops.sum(slope, axis=-1, keepdims=True) * ops.power(total, gap - 1.0)
        return shift + ops.relu(ops.expm1(gap * ops.log(total)) / (gap * slope))

    shift = ops.fori_loop(0, steps, step, ops.zeros_like(scores[..., :1]))
    return _raised(scores - shift, gap)


def _bisected_probabilities(scores, alpha):
    """Bisection on the shift, which is 0 at least and at most that of equal scores."""
    gap = alpha - 1.0
    halvings = 50 if keras.backend.standardize_dtype(scores.dtype) == "float64" else 30

    def halve(_, state):
        low, width = state
        width = width / 2.0
        total = ops.sum(_raised(scores - (low + width), gap), axis=-1, keepdims=True)
        return ops.where(total >= 1.0, low + width, low), width

    count = ops.sum(ops.ones_like(scores), axis=-1, keepdims=True)
    width = -ops.expm1(-gap * ops.log(count)) / gap
    low, _ = ops.fori_loop(0, halvings, halve, (ops.zeros_like(width), width))
    # An entry at the border rises so steeply that rounding of the shift shows: it is what is too much there.
    p = _raised(scores - low, gap)
    slope = _slopes(p, alpha)
    excess = ops.sum(p, axis=-1, keepdims=True) - 1.0
    return ops.relu(p - slope / ops.sum(slope, axis=-1, keepdims=True) * excess)


def _log_probabilities(below, gap):
    """`log(1 + gap · below) / gap`, which stays accurate as `gap` goes to 0, and where that is defined."""
    below = gap * below
    inside = below > -1.0
    return ops.log1p(ops.where(inside, below, 0.0)) / gap, inside


def _raised(below, gap):
    log_p, inside = _log_probabilities(below, gap)
    return ops.where(inside, ops.exp(log_p), 0.0)


def entmax_of_learned(x, alpha):
    r"""Entmax over the last axis for a tensor `alpha` above 1 and below 2 that broadcasts, with its gradient.

    With $s_i = p_i^{2-\alpha}$ and $q_i = p_i\, \partial_\alpha \log p_i$ at a fixed threshold, the derivative is
    $q_i - s_i \sum_j q_j / \sum_j s_j$. For $\alpha$ near 1, $q_i$ is that of the series.
    """
    fixed = ops.stop_gradient(alpha)
    p = _newton_probabilities(_bounded(x, fixed), fixed)
    p = p / ops.sum(p, axis=-1, keepdims=True)

    gap, support = fixed - 1.0, p > 0
    logs = ops.log(ops.where(support, p, 1.0))
    slope = _slopes(p, fixed)
    z = -gap * logs
    small = z < 0.1
    series = ops.where(small, z, 0.0)
    series = (
        p
        * logs
        * logs
        * (0.5 + series * (1 / 6 + series * (1 / 24 + series * (1 / 120 + series / 720))))
    )
    direct = (slope - p - p * z) / (gap * gap)
    change_of_one = -ops.where(small, series, direct)
    share = slope / ops.sum(slope, axis=-1, keepdims=True)
    change = change_of_one - share * ops.sum(change_of_one, axis=-1, keepdims=True)
    return _differentiable(x, p, fixed, slope) + change * (alpha - fixed)


def _slopes(p, alpha):
    support = p > 0
    return ops.where(support, ops.power(ops.where(support, p, 1.0), 2.0 - alpha), 0.0)


def _differentiable(x, p, alpha, slope=None):
    """`p`, with the Jacobian of entmax at `x` for a gradient.

    The value of `x - stop_gradient(x)` is 0, so only its derivative counts.
    """
    support = p > 0
    if slope is None:
        # Above 2 the slope is unbounded at the border of the support; the floor keeps it finite.
        slope = _slopes(ops.where(support, maximum(p, 1e-7), 0.0) if alpha > 2.0 else p, alpha)
    inside = ops.where(support, x, 0.0)
    change = inside - ops.stop_gradient(inside)
    share = slope / ops.sum(slope, axis=-1, keepdims=True)
    return p + slope * (change - ops.sum(share * change, axis=-1, keepdims=True))


def _descending(scores):
    """Scores in descending order and the number of scores up to each."""
    return -ops.sort(-scores, axis=-1), cumsum(ops.ones_like(scores))
