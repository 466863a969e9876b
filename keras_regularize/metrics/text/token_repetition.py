"""How often a language model predicts what was said already."""

from typing import Any

from keras import ops

from keras_regularize.metrics._samples import class_ids, position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.metrics.text._predictions import predicted_tokens
from keras_regularize.ops.ngrams import earlier
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class TokenRepetition(WeightedMean):
    r"""The share of next-token predictions that are among the last tokens before: rep/l, or wrep/l.

    At each position the prediction $\arg\max_v p_t(v)$ counts if it is one of the $l$ targets before, with
    `wrong_only` if it is not the target too: then repeats that are right do not count. It is of texts by people,
    not of generated ones: see `kr.metrics.SequenceRepetition` for those.

    Args:
        window: $l$, the number of targets before, at least 1.
        wrong_only: Whether only wrong predictions count.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Next tokens `(batch, time)`, ids.
        y_pred: Scores `(batch, time, vocabulary)`: logits, probabilities or others of that order.
        sample_weight: Weights `(batch,)` or `(batch, time)`; positions of weight 0 are no targets before either.

    Returns:
        `result()` is a float32 scalar between 0 and 1, 0 before the first sequence.

    Raises:
        ValueError: If `window` is no integer of at least 1, an id is none of the vocabulary, or the shapes do not
            fit.

    Cost: a comparison of all pairs of positions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.TokenRepetition(window=2)
    metric.update_state([[0, 1, 2, 0]], np.eye(3)[[[0, 0, 0, 2]]])
    float(metric.result())  # 3 of 4
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319.
    """

    def __init__(
        self,
        window: int = 128,
        wrong_only: bool = False,
        name: str | None = "token_repetition",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.window = check_integer("window", window, minimum=1)
        self.wrong_only = bool(wrong_only)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the positions of a batch."""
        scores, predicted, unknown = predicted_tokens(y_pred)
        weight = position_weights(y_pred, predicted.shape, sample_weight)
        ids, weight, outside = class_ids(y_true, scores, weight)
        ids = ops.cast(ids, "int32")
        ones = ops.ones_like(predicted, dtype="float32")
        weight = ones if weight is None else weight * ones
        positions = ops.arange(ops.shape(ids)[1], dtype="int32")
        near = positions[:, None] - positions[None, :] <= self.window
        context = ops.logical_and(ops.logical_and(earlier(ids), near), (weight != 0)[:, None, :])
        said = ops.logical_and(predicted[:, :, None] == ids[:, None, :], context)
        found = ops.any(said, axis=-1)
        if self.wrong_only:
            found = ops.logical_and(found, predicted != ids)
        unknown = unknown if outside is None else ops.logical_or(unknown, outside)
        values = ops.where(unknown, float("nan"), ops.cast(found, "float32"))
        self.add_values(values, weight)
