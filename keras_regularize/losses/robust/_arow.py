"""The loss of ARoW."""

from typing import Any

from keras_regularize.labels import at_label
from keras_regularize.losses.robust._pieces import complement, log_probabilities_of
from keras_regularize.numerics import kl_divergence, mean


def arow(
    y_true: Any,
    logits: Any,
    adversarial_logits: Any,
    factor: Any = 7.0,
    label_smoothing: float = 0.2,
) -> Any:
    r"""ARoW per sample: TRADES with more weight on samples that the attack gets wrong.

    $$\ell = -\sum_k \Big((1 - s)\,t_k + \frac sK\Big) \log p_k
      + \lambda\,(1 - p'_y)\, KL(p\,\|\,p')$$

    with $p$ and $p'$ the softmax of the clean and the adversarial logits, $t$ the label's row and
    $p'_y = \sum_k t_k p'_k$. The gradient flows through everything, the weight $1 - p'_y$ too. With a weight of
    1 and $s = 0$ this is `trades`. `kr.models.ARoW` trains with it.

    Args:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        logits: Logits of the clean inputs, `(batch, classes)`; a single column is the logit of class 1.
        adversarial_logits: Logits of the attacked inputs, of the same shape.
        factor: Weight $\lambda$ of the divergence, at least 0. It is that of the authors' code, twice the
            paper's.
        label_smoothing: Share $s$ of the target spread evenly over the classes, in `[0, 1]`.

    Returns:
        The values `(batch,)`, or one per position, in at least float32.

    Raises:
        ValueError: If the shapes of labels and logits do not fit.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    clean, attacked = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    values = kr.losses.arow(np.array([0, 2, 1, 1, 0]), clean, attacked, factor=7.0)
    ```

    Reference: Yang, Kong and Kim, *Improving Adversarial Robustness by Putting More Regularizations on Less
    Robust Samples*, ICML 2023, arXiv:2206.03353. Differs from the authors' code in using log-softmax where
    that adds $10^{-12}$ inside logarithms.
    """
    log_p, log_q = log_probabilities_of(logits, adversarial_logits)
    smoothed = (1.0 - label_smoothing) * at_label(y_true, log_p)
    smoothed = smoothed + label_smoothing * mean(log_p, axis=-1)
    weight = at_label(y_true, complement(log_q))
    return factor * weight * kl_divergence(log_p, log_q) - smoothed
