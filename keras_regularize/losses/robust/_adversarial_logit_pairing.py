"""The loss of adversarial logit pairing."""

from typing import Any

from keras_regularize.labels import at_label
from keras_regularize.losses.robust._pieces import scores_of
from keras_regularize.numerics import log_probabilities, mean


def adversarial_logit_pairing(
    y_true: Any, logits: Any, adversarial_logits: Any, factor: Any = 0.5
) -> Any:
    r"""Adversarial logit pairing per sample: cross-entropy on both inputs, and equal logits.

    $$\ell = -\tfrac12 \big(\log p_y + \log p'_y\big) + \frac{\lambda}{K} \sum_k (z_k - z'_k)^2$$

    with $z$ and $z'$ the clean and the adversarial logits, $p$ and $p'$ their softmax, and $K$ classes. Known to
    be weak: networks trained with it gave way to attacks of many steps (Engstrom et al.). Prefer `trades` or
    `arow`. `kr.models.ALP` trains with it.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        logits: Logits of the clean inputs, `(batch, classes)`; a single column is the logit of class 1 against
            a logit of 0 for class 0.
        adversarial_logits: Logits of the attacked inputs, of the same shape.
        factor: Weight $\lambda$ of the squared difference, at least 0.

    Returns:
        The values `(batch,)`, or one per position, in at least float32.

    Raises:
        ValueError: If the shapes of labels and logits do not fit.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    clean, attacked = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    values = kr.losses.adversarial_logit_pairing(np.array([0, 2, 1, 1, 0]), clean, attacked)
    ```

    Reference: Kannan, Kurakin and Goodfellow, *Adversarial Logit Pairing*, 2018, arXiv:1803.06373; its
    weakness: Engstrom, Ilyas and Athalye, *Evaluating and Understanding the Robustness of Adversarial Logit
    Pairing*, 2018, arXiv:1807.10272. Implementations differ in the norm of the pairing; here it is the mean
    over classes.
    """
    scores = scores_of(logits, adversarial_logits)
    clean, attacked = (at_label(y_true, log_probabilities(z, True)) for z in scores)
    difference = scores[0] - scores[1]
    return factor * mean(difference * difference, axis=-1) - 0.5 * (clean + attacked)
