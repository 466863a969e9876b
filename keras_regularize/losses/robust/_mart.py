"""The loss of MART."""

from typing import Any

from keras import ops

from keras_regularize.labels import at_label, pick
from keras_regularize.losses.robust._pieces import complement, log_probabilities_of
from keras_regularize.numerics import kl_divergence


def mart(y_true: Any, logits: Any, adversarial_logits: Any, beta: Any = 5.0) -> Any:
    r"""MART per sample: a margin loss under attack, and equal predictions where the clean one is wrong.

    $$\ell = -\log p'_y - \log\big(1.0001 - \max_{j \ne y} p'_j\big)
      + \beta\,(1 - p_y)\, KL(p\,\|\,p')$$

    with $p$ and $p'$ the softmax of the clean and the adversarial logits. The gradient flows through
    everything, the weight $1 - p_y$ too; at a tie of the other classes it goes to the first. Under a soft
    label the first line and $p_y$ are means over the label's distribution. `kr.models.MART` trains with it.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        logits: Logits of the clean inputs, `(batch, classes)`; a single column is the logit of class 1.
        adversarial_logits: Logits of the attacked inputs, of the same shape.
        beta: Weight $\beta$ of the divergence (the paper's $\lambda$), at least 0.

    Returns:
        The values `(batch,)`, or one per position, in at least float32.

    Raises:
        ValueError: If the shapes of labels and logits do not fit.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    clean, attacked = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    values = kr.losses.mart(np.array([0, 2, 1, 1, 0]), clean, attacked, beta=5.0)
    ```

    Reference: Wang, Zou, Yi, Bailey, Ma and Gu, *Improving Adversarial Robustness Requires Revisiting
    Misclassified Examples*, ICLR 2020. The constant 1.0001 is that of the authors' code; their $10^{-12}$
    inside the other logarithms is not needed here.
    """
    log_p, log_q = log_probabilities_of(logits, adversarial_logits)
    others = complement(_strongest_other(log_q))
    boosted = at_label(y_true, -log_q - ops.log(others + 1e-4))
    weight = at_label(y_true, complement(log_p))
    return boosted + beta * weight * kl_divergence(log_p, log_q)


def _strongest_other(values):
    """For every class the largest entry among the other classes."""
    first = ops.argmax(values, axis=-1)
    is_first = ops.one_hot(first, values.shape[-1], dtype="bool")
    second = ops.argmax(ops.where(is_first, -3e38, values), axis=-1)
    first, second = (ops.expand_dims(pick(values, ids), -1) for ids in (first, second))
    return ops.where(is_first, second, first)
