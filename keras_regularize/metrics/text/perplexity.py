"""How well a language model predicts text."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.labels import pick
from keras_regularize.metrics._samples import check_ignored, class_ids, position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export


@export
class Perplexity(WeightedMean):
    r"""Perplexity of text under a language model: the number of tokens it hesitates between.

    $$\exp\Big( -\frac1N \sum_t \log p_t(x_t) \Big),$$

    over all positions that count, of all batches: not the mean of the perplexities of batches.

    Args:
        from_logits: Whether predictions are logits, or probabilities.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Id of positions that do not count, such as padding.

    Call arguments:
        y_true: Next tokens `(batch, time)`, ids.
        y_pred: Logits or probabilities `(batch, time, vocabulary)`.
        sample_weight: Weights `(batch,)` or `(batch, time)`. A mask of `y_pred` counts too.

    Returns:
        `result()` is a float32 scalar of at least 1, 1 before the first token.

    Raises:
        ValueError: If an id is none of the vocabulary, or the shapes do not fit.

    Cost: that of cross-entropy.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.Perplexity(from_logits=True)
    metric.update_state([[0, 1, 2]], np.zeros((1, 3, 4)))
    float(metric.result())  # 4
    ```

    Reference: Frederick Jelinek, Robert L. Mercer, Lalit R. Bahl and James K. Baker, *Perplexity: a Measure of the
    Difficulty of Speech Recognition Tasks*, Journal of the Acoustical Society of America 1977.
    """

    def __init__(
        self,
        from_logits: bool = False,
        name: str | None = "perplexity",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name, dtype)
        self.from_logits = bool(from_logits)
        self.ignore_class = check_ignored(ignore_class)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the tokens of a batch."""
        log_p = log_probabilities(y_pred, self.from_logits)
        weight = position_weights(y_pred, log_p.shape[:-1], sample_weight)
        ids, weight, outside = class_ids(y_true, log_p, weight, self.ignore_class)
        inside = ops.clip(ids, 0, log_p.shape[-1] - 1)
        values = ops.cast(-pick(log_p, inside), "float32")
        if outside is not None:
            values = ops.where(outside, np.nan, values)
        ones = ops.ones_like(values)
        self.add_values(values, ones if weight is None else weight * ones)

    def result(self):
        """The perplexity of the tokens so far."""
        return ops.exp(super().result())
