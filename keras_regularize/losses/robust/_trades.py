"""The loss of TRADES."""

from typing import Any

from keras_regularize.labels import at_label
from keras_regularize.losses.robust._pieces import log_probabilities_of
from keras_regularize.numerics import kl_divergence


def trades(y_true: Any, logits: Any, adversarial_logits: Any, beta: Any = 6.0) -> Any:
    r"""TRADES per sample: be right on the clean input, and predict the same under attack.

    $$\ell = -\log p_y + \beta\, KL(p\,\|\,p')$$

    with $p$ and $p'$ the softmax of the clean and the adversarial logits. The gradient flows through both.
    `kr.models.TRADES` trains with it.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        logits: Logits of the clean inputs, `(batch, classes)`; a single column is the logit of class 1.
        adversarial_logits: Logits of the attacked inputs, of the same shape.
        beta: Weight $\beta$ of the divergence (the paper's $1/\lambda$), at least 0.

    Returns:
        The values `(batch,)`, or one per position, in at least float32.

    Raises:
        ValueError: If the shapes of labels and logits do not fit.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    clean, attacked = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    values = kr.losses.trades(np.array([0, 2, 1, 1, 0]), clean, attacked, beta=6.0)
    ```

    Reference: Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, *Theoretically Principled Trade-off between
    Robustness and Accuracy*, ICML 2019, arXiv:1901.08573.
    """
    log_p, log_q = log_probabilities_of(logits, adversarial_logits)
    return beta * kl_divergence(log_p, log_q) - at_label(y_true, log_p)
