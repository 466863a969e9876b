"""Weighted cross-entropy and Dice coefficient in one loss."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import ratio
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


def logarithms(pixels):
    """`log p` and `log(1 - p)` of every channel; those of logits are exact however confident they are."""
    x = pixels.scores
    if not pixels.from_logits:
        p = ops.clip(x, 1e-7, 1.0 - 1e-7)
        return ops.log(p), ops.log(1.0 - p)
    if x.shape[1] == 1:
        return ops.log_sigmoid(x), ops.log_sigmoid(-x)
    log_p = pixels.log_probabilities
    top = ops.one_hot(ops.argmax(log_p, axis=1), x.shape[1], axis=1, dtype="bool")
    # What is not the largest is at most ½; the complement of the largest are the others.
    others = ops.logsumexp(ops.where(top, -1e30, log_p), axis=1, keepdims=True)
    return log_p, ops.where(top, others, ops.log1p(-ops.exp(ops.where(top, -1.0, log_p))))


@export
class Combo(SegmentationLoss):
    r"""Weighted binary cross-entropies of all classes less their Dice coefficient.

    With probabilities $p$, targets $y$ and $C$ channels, an image with $N$ pixels has the value

    $$-\frac{\alpha}{N C} \sum \big(\beta\, y \log p + (1 - \beta)(1 - y) \log (1 - p)\big)
      - \frac{1 - \alpha}{C} \sum_c \frac{2 \sum p_c\, y_c + s}{\sum p_c + \sum y_c + s}.$$

    It is at least $\alpha - 1$. Probabilities are clipped to `[1e-7, 1 - 1e-7]`, logits kept in log space.

    Args:
        crossentropy_weight: Weight $\alpha$ of cross-entropy against the Dice coefficient, in [0, 1].
        false_negative_weight: Weight $\beta$ of misses against false alarms, in [0, 1].
        smooth: Number $s \ge 0$ that is added to numerator and denominator.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: that of cross-entropy and of `SoftDice`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.Combo(false_negative_weight=0.7, from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Saeid Asgari Taghanaki and others, *Combo loss: Handling input and output imbalance in multi-organ
    segmentation*, Computerized Medical Imaging and Graphics 2019, arXiv:1805.02798.
    """

    def __init__(
        self,
        crossentropy_weight: float = 0.5,
        false_negative_weight: float = 0.5,
        smooth: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.crossentropy_weight = check_number(
            "crossentropy_weight", crossentropy_weight, minimum=0, maximum=1
        )
        self.false_negative_weight = check_number(
            "false_negative_weight", false_negative_weight, minimum=0, maximum=1
        )
        self.smooth = check_number("smooth", smooth, minimum=0)

    def image_values(self, pixels):
        dice = mean(dice_coefficients(self, pixels), axis=-1)
        y, beta = pixels.targets, self.false_negative_weight
        log_p, log_q = logarithms(pixels)
        entropies = -mean(beta * y * log_p + (1.0 - beta) * (1.0 - y) * log_q, axis=1)
        entropy = self.mean(pixels, entropies)
        return self.crossentropy_weight * entropy - (1.0 - self.crossentropy_weight) * dice


def dice_coefficients(loss, pixels):
    """The Dice coefficients of the classes, `(batch, classes)` or `(1, classes)`."""
    p, y = pixels.probabilities, pixels.labels
    overlap, predicted, size = loss.total(p * y), loss.total(p), loss.total(y)
    return ratio(2.0 * overlap, predicted + size, loss.smooth)
