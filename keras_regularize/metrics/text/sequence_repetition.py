"""How much a generated text repeats itself."""

from typing import Any

from keras import ops

from keras_regularize.metrics._samples import position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.ops.ngrams import as_tokens, repetition
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class SequenceRepetition(WeightedMean):
    r"""The share of the n-grams of a generated sequence that came before in it: seq-rep-n.

    $$1 - \frac{|\text{different n-grams}|}{|\text{n-grams}|},$$

    the mean over sequences: about 0 for 4-grams of text by people, much more for a language model that is decoded
    greedily. `kr.generative.greedy_continuation` makes such sequences. One that is shorter than $n$ has 0.

    Args:
        ngram: $n$, at least 1.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Not looked at; may be `None`.
        y_pred: Token ids of sequences, `(batch, time)`.
        sample_weight: Weights `(batch,)`; or `(batch, time)` with 0 for padding, which no n-gram extends over. A
            mask of `y_pred` does the same.

    Returns:
        `result()` is a float32 scalar between 0 and 1, 0 before the first sequence.

    Raises:
        ValueError: If `ngram` is no integer of at least 1, or `y_pred` are not `(batch, time)`.

    Cost: `ngram` comparisons of all pairs of positions.

    Example:

    ```python
    import keras_regularize as kr

    metric = kr.metrics.SequenceRepetition(ngram=2)
    metric.update_state(None, [[0, 1, 2, 0, 1, 3]])
    float(metric.result())  # 1 of 5
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319; Evgeny Lagutin, Daniil Gavrilov and
    Pavel Kalaidin, *Implicit Unlikelihood Training*, EACL 2021, arXiv:2101.04229.
    """

    def __init__(
        self,
        ngram: int = 4,
        name: str | None = "sequence_repetition",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.ngram = check_integer("ngram", ngram, minimum=1)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the sequences of a batch."""
        tokens = as_tokens(y_pred)
        weight = position_weights(y_pred, tokens.shape, sample_weight)
        counted, weights = None, ops.ones_like(tokens[:, 0], dtype="float32")
        if weight is not None:
            weight = weight * ops.ones_like(tokens, dtype="float32")
            counted, weights = weight != 0, ops.max(weight, axis=-1)
        self.add_values(repetition(tokens, self.ngram, counted), weights)
