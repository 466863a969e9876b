"""Cross-entropy of tokens that also lowers the probability of what was said already."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import pick
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.losses.text._tokens import check_sequences
from keras_regularize.numerics import log_probabilities, maximum
from keras_regularize.ops.ngrams import earlier
from keras_regularize.registration import export
from keras_regularize.validation import check_number

# Of 1 - p: a candidate that is sure already.
_LEAST = 1e-5


@export
class TokenUnlikelihood(ClassLoss):
    r"""Next-token cross-entropy that makes the tokens unlikely that the text has used already.

    $$\ell_t = -\log p_t(x_t) - \alpha \sum_{c \in C_t} \log\big(1 - p_t(c)\big), \qquad
      C_t = \{x_1, \dots, x_{t-1}\} \setminus \{x_t\}.$$

    Language models trained by likelihood alone repeat themselves when decoded greedily, as what was said is likely
    to be said again. Each earlier token counts once, however often it came. Targets are the next tokens, those of
    a sequence are candidates for that sequence alone, and $1 - p$ below $10^{-5}$ counts as that, with gradient 0.

    Args:
        alpha: $\alpha \ge 0$; 0 is cross-entropy.
        ignore_index: Id of padding, or `None`: its positions have no value, and it is never a candidate. What a
            mask leaves out has no value either, but its tokens are candidates for what comes after.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Next tokens `(batch, time)`, ids.
        y_pred: Logits `(batch, time, vocabulary)`.

    Returns:
        With `reduction="none"` values `(batch, time)`, else a scalar.

    Raises:
        ValueError: If `alpha` is negative, an id is none of the vocabulary, or the shapes do not fit.

    Cost: that of cross-entropy, and `(batch, time, time)` probabilities of candidates.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.TokenUnlikelihood(ignore_index=0)
    loss(np.array([[3, 1, 3, 0]]), np.random.normal(size=(1, 4, 5)))
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319. Differs from the authors' code,
    where the tokens of a sequence are candidates for the next one in the batch, and padding is one everywhere.
    """

    from_logits = True

    def __init__(
        self,
        alpha: float = 1.0,
        ignore_index: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "token_unlikelihood",
        dtype: str | None = None,
    ):
        super().__init__(ignore_index, name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=0)
        self.ignore_index = self.ignore_class

    def values(self, labels, y_pred):
        ids = check_sequences(labels, y_pred)
        log_p = log_probabilities(y_pred, from_logits=True)
        values = -pick(log_p, ids)
        if self.alpha == 0:
            return values
        before, same = earlier(ids), ids[:, :, None] == ids[:, None, :]
        earlier_tokens = before
        if labels.counted is not None:
            earlier_tokens = ops.logical_and(before, labels.counted[:, None, :])
        first = ops.logical_not(ops.any(ops.logical_and(same, earlier_tokens), axis=-1))
        candidates = ops.logical_and(earlier_tokens, ops.logical_not(same))
        candidates = ops.logical_and(candidates, first[:, None, :])
        at = backend.take_last(log_p, ids[:, None, :] + ops.zeros_like(ids[:, :, None]))
        rest = maximum(-ops.expm1(ops.where(candidates, at, -1.0)), _LEAST)
        return values - self.alpha * ops.sum(ops.where(candidates, ops.log(rest), 0.0), axis=-1)
