"""How many words a language model uses."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import position_weights
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total
from keras_regularize.metrics.text._predictions import predicted_tokens
from keras_regularize.ops.ngrams import as_tokens
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class UniqueTokens(Configured, keras.metrics.Metric):
    """The number of different tokens that a language model predicts (uniq) or generates (uniq-seq).

    A model that repeats itself uses less of its vocabulary than people do on the same data.

    Args:
        vocabulary_size: Number of tokens that there are, at least 1.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Not looked at; may be `None`.
        y_pred: Scores `(batch, time, vocabulary)`, of which the best token counts; or token ids `(batch, time)`.
        sample_weight: Weights `(batch,)` or `(batch, time)`: where they, or a mask, are 0, a token does not count.

    Returns:
        `result()` is a float32 scalar, the number of tokens since the last reset.

    Raises:
        ValueError: If `vocabulary_size` is no integer of at least 1, or the shape of `y_pred` is none of these.

    Cost: a count of the vocabulary.

    Example:

    ```python
    import keras_regularize as kr

    metric = kr.metrics.UniqueTokens(vocabulary_size=5)
    metric.update_state(None, [[0, 4, 4, 0]])
    float(metric.result())  # 2
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319.
    """

    def __init__(
        self,
        vocabulary_size: int,
        name: str | None = "unique_tokens",
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.vocabulary_size = check_integer("vocabulary_size", vocabulary_size, minimum=1)
        self._sums = add_sums(self, (self.vocabulary_size, 1))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the tokens of a batch."""
        given = ops.convert_to_tensor(y_pred)
        if len(given.shape) == 3:
            scores, tokens, unknown = predicted_tokens(given)
            if scores.shape[-1] not in (None, self.vocabulary_size):
                raise ValueError(
                    f"Expected scores of {self.vocabulary_size} tokens. "
                    f"Received: y_pred.shape={tuple(scores.shape)}"
                )
        else:
            tokens, unknown = ops.cast(as_tokens(given), "int32"), None
        weight = position_weights(y_pred, tokens.shape, sample_weight)
        known = ops.logical_and(tokens >= 0, tokens < self.vocabulary_size)
        if weight is not None:
            known = ops.logical_and(known, weight != 0)
        values = ops.cast(known, "float32")
        if unknown is not None:
            hidden = unknown if weight is None else ops.logical_and(unknown, weight != 0)
            values = ops.where(hidden, float("nan"), values)
        flat = [ops.reshape(x, (-1,)) for x in (values, tokens)]
        accumulate(self._sums, segment_sums(flat[:1], flat[1], self.vocabulary_size))

    def result(self):
        """The number of tokens so far."""
        counts = total(self._sums)
        return ops.sum(ops.where(ops.isnan(counts), counts, ops.cast(counts > 0, "float32")))
