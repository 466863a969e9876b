"""The policy gradient that rewards a text for not repeating itself."""

from typing import Any

from keras import ops

from keras_regularize.numerics import masked_mean, mean, upcast
from keras_regularize.ops.ngrams import as_tokens, repetition
from keras_regularize.validation import check_number, compatible


def implicit_unlikelihood_loss(
    log_probabilities: Any,
    tokens: Any,
    ngram: int = 4,
    coefficient: float = 3.0,
    counted: Any = None,
) -> Any:
    r"""Policy gradient by which a model learns to continue text without repeats.

    Of the continuations $x_1, \dots, x_B$ that the model has made, each is rewarded by the share of its n-grams
    that are different, $R_b = |\text{different n-grams}| / |\text{n-grams}|$, and made more likely the further its
    reward is above their mean:

    $$\ell_b = -\lambda\, (R_b - \bar R)\, \frac1T \sum_t \log p(x_{bt}).$$

    The gradient flows through the log-probabilities alone. Repeats are never named as such: it is the reward that
    `kr.metrics.SequenceRepetition` measures, one less it. With a single sequence, or equal rewards, the loss is 0.
    `kr.models.ImplicitUnlikelihood` trains by it in `fit`.

    Args:
        log_probabilities: Log-probabilities $\log p(x_{bt})$ of the tokens, `(batch, time)`.
        tokens: Token ids of the continuations, `(batch, time)`.
        ngram: Length of the runs, at least 1.
        coefficient: $\lambda > 0$.
        counted: Bools `(batch,)`: whose reward is in the mean. `None` for all.

    Returns:
        Values `(batch,)`.

    Raises:
        ValueError: If an argument is out of range, or the shapes do not fit.

    Cost: `ngram` comparisons of all pairs of positions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    tokens = np.array([[1, 2, 1, 2], [1, 2, 3, 4]])
    kr.generative.implicit_unlikelihood_loss(np.log([[0.5] * 4, [0.2] * 4]), tokens, ngram=2)  # (2,)
    ```

    Reference: Evgeny Lagutin, Daniil Gavrilov and Pavel Kalaidin, *Implicit Unlikelihood Training: Improving
    Neural Text Generation with Reinforcement Learning*, EACL 2021, arXiv:2101.04229.
    """
    check_number("coefficient", coefficient, above=0)
    log_p, tokens = upcast(log_probabilities), as_tokens(tokens)
    if not compatible(log_p.shape, tokens.shape):
        raise ValueError(
            "Expected a log-probability for each token, (batch, time). Received: "
            f"log_probabilities.shape={tuple(log_p.shape)}, tokens.shape={tuple(tokens.shape)}"
        )
    reward = ops.cast(1.0 - repetition(tokens, ngram), log_p.dtype)
    baseline = mean(reward) if counted is None else masked_mean(reward, counted)
    advantage = ops.stop_gradient(reward - baseline)
    return -coefficient * advantage * mean(log_p, axis=-1)
