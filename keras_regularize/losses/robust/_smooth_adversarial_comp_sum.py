"""The smooth adversarial comp-sum loss."""

from typing import Any

from keras import ops

from keras_regularize.labels import at_label
from keras_regularize.losses.classification.comp_sum import comp_sum_of
from keras_regularize.losses.robust._pieces import scores_of
from keras_regularize.numerics import log_probabilities, mean, safe_sqrt


def smooth_adversarial_comp_sum(
    y_true: Any,
    logits: Any,
    adversarial_logits: Any,
    tau: float = 1.0,
    rho: float = 1.0,
    nu: Any = 1.0,
) -> Any:
    r"""Smooth adversarial comp-sum loss per sample: a clean loss, and margins that the attack cannot move.

    $$\ell = \Phi_\tau\Big(\sum_{j \ne y} e^{-(z_y - z_j)/\rho}\Big)
      + \nu \sqrt{\sum_{j \ne y} \big((z'_y - z'_j) - (z_y - z_j)\big)^2}$$

    with $z$ and $z'$ the clean and the adversarial logits and $\Phi_\tau$ that of `kr.losses.CompSum`. The
    second term has gradient 0 where no margin moved. With $\tau = \rho = 1$ and $\nu = 0$ this is
    cross-entropy. Under a soft label it is the mean over the label's distribution. `kr.models.AdvCompSum` trains
    with it.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        logits: Logits of the clean inputs, `(batch, classes)`; a single column is the logit of class 1.
        adversarial_logits: Logits of the attacked inputs, of the same shape.
        tau: Member $\tau$ of the family, at least 0: 1 for cross-entropy.
        rho: Margin $\rho$, above 0, in units of the logits.
        nu: Weight $\nu$ of the change of margins, at least 0; the theory wants at least $\sqrt{K-1}/\rho$.

    Returns:
        The values `(batch,)`, or one per position, in at least float32.

    Raises:
        ValueError: If the shapes of labels and logits do not fit.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    clean, attacked = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    values = kr.losses.smooth_adversarial_comp_sum(np.array([0, 2, 1, 1, 0]), clean, attacked)
    ```

    Reference: Mao, Mohri and Zhong, *Cross-Entropy Loss Functions: Theoretical Analysis and Applications*, ICML
    2023, arXiv:2304.07288.
    """
    scores, moved = scores_of(logits, adversarial_logits)
    clean = comp_sum_of(log_probabilities(scores / rho, True), tau)
    # Of every class as the label: sum_j (s_k - s_j)^2 = sum_j (s_j - m)^2 + K (s_k - m)^2, m the mean of s.
    shift = moved - scores
    shift = shift - mean(shift, axis=-1, keepdims=True)
    squares = shift * shift
    norms = safe_sqrt(ops.sum(squares, axis=-1, keepdims=True) + shift.shape[-1] * squares)
    return at_label(y_true, clean) + nu * at_label(y_true, norms)
