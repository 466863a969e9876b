"""A loss on text that a model has generated: no run of tokens twice."""

import math

from keras import ops

from keras_regularize.losses.loss import ClassLoss
from keras_regularize.losses.text._tokens import check_sequences
from keras_regularize.numerics import log_probabilities, maximum
from keras_regularize.ops.ngrams import log_complement, ngram_repeat_mask
from keras_regularize.registration import export
from keras_regularize.validation import check_integer

_LEAST = math.log(1e-20)


@export
class SequenceUnlikelihood(ClassLoss):
    r"""Makes the repeats unlikely in text that the model has generated itself.

    $$\ell_t = -\big[x_t \text{ belongs to an n-gram that came before}\big]\, \log\big(1 - p_t(x_t)\big),$$

    for a continuation $x$ that the model has chosen, with the logits from which it did, and without gradient
    through the choice. Positions are those of `kr.generative.ngram_repeat_mask`. $\log(1 - p)$ is a sum over the
    other tokens: it has a gradient where $p$ rounds to 1, as in a model that is caught in a loop; $1 - p$ below
    $10^{-20}$ counts as that, with gradient 0. `kr.models.ImplicitUnlikelihood` trains by it in `fit`.

    Args:
        ngram: Length of the runs, at least 1.
        ignore_index: Id of padding, or `None`: such positions are no part of a repeat.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Generated tokens `(batch, time)`, ids.
        y_pred: Logits `(batch, time, vocabulary)` that they were chosen from.

    Returns:
        With `reduction="none"` values `(batch, time)`, 0 where nothing is repeated, else a scalar.

    Raises:
        ValueError: If `ngram` is no integer of at least 1, an id is none of the vocabulary, or the shapes do not
            fit.

    Cost: twice that of cross-entropy, and `ngram` comparisons of all pairs of positions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.SequenceUnlikelihood(ngram=2)
    loss(np.array([[3, 1, 2, 3, 1]]), np.random.normal(size=(1, 5, 4)))
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319. Differs from the authors' code in
    looking at the last n-gram too.
    """

    from_logits = True

    def __init__(
        self,
        ngram: int = 4,
        ignore_index: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sequence_unlikelihood",
        dtype: str | None = None,
    ):
        super().__init__(ignore_index, name=name, reduction=reduction, dtype=dtype)
        self.ngram = check_integer("ngram", ngram, minimum=1)
        self.ignore_index = self.ignore_class

    def values(self, labels, y_pred):
        ids = check_sequences(labels, y_pred)
        repeats = ngram_repeat_mask(ids, self.ngram, labels.counted)
        rest = log_complement(log_probabilities(y_pred, from_logits=True), ids)
        return ops.where(repeats, -maximum(rest, _LEAST), 0.0)
