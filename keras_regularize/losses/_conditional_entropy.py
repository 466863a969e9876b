"""Conditional entropy: how undecided a classifier is, without labels."""

from typing import Any

from keras import ops

from keras_regularize.numerics import log_probabilities, maximum


def conditional_entropy(logits: Any) -> Any:
    r"""Entropy of each prediction; small values keep decision boundaries out of dense regions.

    $$H(p) = -\sum_k p_k \log p_k, \qquad p = \operatorname{softmax}(z)$$

    in nats, between 0 (certain) and $\log K$ (uniform). Minimizing its mean over unlabelled samples is entropy
    minimization; `kr.models.VAT` adds it with `entropy_factor`. A constant added to the logits of a sample
    changes nothing, so log-probabilities serve as well. The gradient vanishes at a certain and at a uniform
    prediction. Computed in float32 or wider.

    Args:
        logits: Logits $z$ or log-probabilities, `(…, classes)`. A last axis of size one is the logit of class 1
            against 0.

    Returns:
        The entropies, `(…)`.

    Cost: one softmax.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.conditional_entropy(np.zeros((2, 4), "float32"))  # log 4, twice
    ```

    Reference: Grandvalet and Bengio, *Semi-supervised Learning by Entropy Minimization*, NeurIPS 2004.
    """
    log_p = log_probabilities(logits, from_logits=True)
    # Logits of minus infinity stand for classes that are ruled out: 0 · ∞ must not become NaN.
    return -ops.sum(ops.exp(log_p) * maximum(log_p, -1e30), axis=-1)
