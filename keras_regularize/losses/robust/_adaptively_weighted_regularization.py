"""The regularization term of SRST-AWR."""

from typing import Any

from keras import ops

from keras_regularize.losses.robust._pieces import complement, log_probabilities_of
from keras_regularize.numerics import kl_divergence


def adaptively_weighted_regularization(
    teacher_logits: Any, logits: Any, adversarial_logits: Any, beta: Any = 0.5
) -> Any:
    r"""Divergence under attack per sample, weighted by a teacher: more where student and teacher differ.

    $$\ell = \big(\beta \langle t, p \rangle + (1 - \beta)(1 - \langle t, p' \rangle)\big)\,
      KL(p\,\|\,p')$$

    with $t$, $p$ and $p'$ the softmax of teacher, clean and adversarial logits. No labels are needed, so that
    unlabelled samples count too. No gradient flows to the teacher; it flows through everything else, the weight
    too. With a teacher that is certain of the true label and `beta=0` the term is that of `arow`.

    Args:
        teacher_logits: Logits of a fixed teacher on the clean inputs, `(batch, classes)`; a single column is the
            logit of class 1. Further axes between batch and classes are positions.
        logits: Logits of the clean inputs, of the same shape.
        adversarial_logits: Logits of the attacked inputs, of the same shape.
        beta: Share $\beta$ of the weight that is the clean agreement, in `[0, 1]`.

    Returns:
        The values `(batch,)`, or one per position, in at least float32.

    Raises:
        ValueError: If the shapes of the logits differ.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    teacher, clean, attacked = logits
    values = kr.losses.adaptively_weighted_regularization(teacher, clean, attacked)
    ```

    Reference: Yang, Kong and Kim, *Enhancing Adversarial Robustness in Low-Label Regime via Adaptively Weighted
    Regularization and Knowledge Distillation*, ICCV 2023, arXiv:2308.04061. Differs from the authors' code in
    using log-softmax where that adds $10^{-12}$ inside logarithms.
    """
    log_p, log_q, log_t = log_probabilities_of(logits, adversarial_logits, teacher_logits)
    teacher = ops.stop_gradient(ops.exp(log_t))
    clean = ops.sum(teacher * ops.exp(log_p), axis=-1)
    doubt = ops.sum(teacher * complement(log_q), axis=-1)  # The teacher's probabilities sum to 1.
    return (beta * clean + (1.0 - beta) * doubt) * kl_divergence(log_p, log_q)
