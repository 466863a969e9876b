"""Softmax's relative with a logarithmic barrier in the place of the entropy."""

from typing import Any

from keras import ops

from keras_regularize.numerics import as_float, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
def log_barrier_simplex(x: Any, learning_rate: float = 1.0, axis: int = -1) -> Any:
    r"""Probabilities whose tails fall like one over the gap of the scores, not exponentially.

    $$p = \arg\max_{p \in \Delta}\; \eta\, \langle p, x \rangle + \sum_a \log p_a
    = \frac{1}{\eta\, (\nu - x_a)},\qquad \nu \text{ such that } \sum_a p_a = 1.$$

    No score, however low, gets a probability that vanishes fast: the policy of follow the regularized leader for
    bandits whose estimated losses may be very negative, with the negated sum of the losses as scores. Adding a
    constant to all scores changes nothing; equal scores get equal probabilities. The Jacobian is
    $\partial p_a / \partial x_b = \eta\, p_a^2\, (\delta_{ab} - p_b^2 / \sum_c p_c^2)$.

    Args:
        x: Scores, a float tensor of any shape. Entries of `-inf` get probability 0.
        learning_rate: $\eta > 0$: probabilities are nearly equal for small ones, one of them nearly 1 for large
            ones.
        axis: Axis along which the result sums to 1.

    Returns:
        Probabilities with the shape and dtype of `x`. Half-precision input is computed in float32.

    Raises:
        ValueError: If `learning_rate` is not positive.

    Cost: about forty passes over the scores.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    p = kr.activations.log_barrier_simplex(np.array([[0.0, -10.0]], "float32"))  # 0.91, 0.09
    layer = keras.layers.Dense(10, activation=kr.activations.log_barrier_simplex)
    ```

    Reference: Haipeng Luo, Chen-Yu Wei and Kai Zheng, *Efficient Online Portfolio with Logarithmic Regret*,
    NeurIPS 2018, arXiv:1805.07430; in bandits, Yan Dai, Haipeng Luo, Chen-Yu Wei and Julian Zimmert, *Refined
    Regret for Adversarial MDPs with Linear Function Approximation*, ICML 2023, arXiv:2301.12942.
    """
    check_number("learning_rate", learning_rate, above=0)
    x = as_float(x)
    if 0 in x.shape:  # The maximum of an empty batch raises on TensorFlow.
        return x
    scores = upcast(x)
    top = ops.stop_gradient(ops.max(scores, axis=axis, keepdims=True))
    # Below the top score by so much; `1 / (t + gap)` sums to 1 for one `t` between 1 and the number of scores.
    gaps = learning_rate * (top - scores)
    fixed = ops.stop_gradient(gaps)
    t = ops.fori_loop(0, _STEPS, lambda _, t: _closer(t, fixed, axis), ops.ones_like(top))
    # At the root, a step that is differentiated has its derivative, and a second one the derivative of that.
    t = _closer(_closer(ops.stop_gradient(t), gaps, axis), gaps, axis)
    return ops.cast(1.0 / (t + gaps), x.dtype)


_STEPS = 12


def _closer(t, gaps, axis):
    """A step of Newton on `1 / Σ 1 / (t + gap) = 1`, which is concave in `t`, so that it never goes too far."""
    inverse = 1.0 / (t + gaps)
    total = ops.sum(inverse, axis=axis, keepdims=True)
    return t + total * (total - 1.0) / ops.sum(inverse * inverse, axis=axis, keepdims=True)
