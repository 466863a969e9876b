"""A weighted sum of losses, as one loss."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff.compiled_losses import per_sample
from keras_regularize.losses._coupled import BatchCoupledLoss
from keras_regularize.masks import keras_mask
from keras_regularize.numerics import masked_mean
from keras_regularize.registration import export
from keras_regularize.scores import uses_logits
from keras_regularize.validation import check_number


@export
class WeightedSum(BatchCoupledLoss):
    r"""Weighted sum of losses of the same predictions, such as Dice and cross-entropy.

    With the values $\ell_k$ that each loss gives to a sample,

    $$\sum_k w_k\, \ell_k.$$

    Losses of an image and losses of its pixels go together: the latter are averaged over the pixels, of which
    those that the loss ignores do not count. Losses that look at the whole batch see of it what counts.

    Args:
        losses: The losses: instances, functions, or names of Keras' own. Their own reductions do not act.
        weights: Their weights $w_k$, any numbers, or `None` for 1.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: What all of the losses take.
        y_pred: What all of the losses take.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, or per position if all losses give that; else a
        scalar.

    Raises:
        ValueError: If there are no losses, not as many weights, one of the losses gives a scalar, or some take
            logits and others probabilities.

    Cost: that of the losses.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    dice = kr.losses.SoftDice(from_logits=True, ignore_class=255)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    loss = kr.losses.WeightedSum([dice, cross_entropy], weights=[1.0, 0.5])
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Saeid Asgari Taghanaki and others, *Combo loss: Handling input and output imbalance in multi-organ
    segmentation*, Computerized Medical Imaging and Graphics 2019, arXiv:1805.02798.
    """

    def __init__(
        self,
        losses: Sequence[Any],
        weights: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "weighted_sum",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.losses = [keras.losses.get(loss) for loss in losses]
        if not self.losses or None in self.losses:
            raise ValueError(
                f"`losses` must be a list of losses, their names or functions. Received: losses={losses!r}"
            )
        weights = [1.0] * len(self.losses) if weights is None else list(weights)
        if len(weights) != len(self.losses):
            raise ValueError(
                f"`weights` must have one number per loss, {len(self.losses)}. Received: weights={weights!r}"
            )
        self.weights = [
            check_number("weights", weight, above=-math.inf, below=math.inf) for weight in weights
        ]
        if {uses_logits(loss) for loss in self.losses} >= {True, False}:
            raise ValueError(
                "`losses` must all take logits or all probabilities. Received: "
                f"from_logits={[uses_logits(loss) for loss in self.losses]}"
            )

    def values(self, y_true, y_pred, counted):
        parts = [self._values(loss, y_true, y_pred, counted) for loss in self.losses]
        alike = len({len(values.shape) for values, _ in parts}) == 1
        if not (alike and all(mask is None for _, mask in parts)):
            parts = [(_per_sample(values, mask), None) for values, mask in parts]
        return sum(w * ops.cast(v, self.dtype) for w, (v, _) in zip(self.weights, parts)), None

    def _values(self, loss, y_true, y_pred, counted):
        """The values of a loss, and the mask that it puts on them."""
        if isinstance(loss, BatchCoupledLoss):
            return loss.values(y_true, y_pred, counted)
        function = loss.call if isinstance(loss, keras.losses.Loss) else loss
        values = function(y_true, y_pred)
        if len(values.shape) == 0:
            raise ValueError(
                f"The losses must give a value per sample. Received the scalar of {loss}"
            )
        return values, keras_mask(values)


def _per_sample(values, mask):
    if mask is not None and len(values.shape) > 1:
        values = masked_mean(values, mask, axis=tuple(range(1, len(values.shape))))
    return per_sample(values)
