"""Powers of the logarithms of Dice coefficient and probability."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.combo import dice_coefficients
from keras_regularize.losses.segmentation.region_loss import check_weights, weighted
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import maximum, mean, safe_log
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class ExponentialLogarithmic(SegmentationLoss):
    r"""Logarithmic Dice loss and cross-entropy, both to a power, for classes of very unequal size.

    With the Dice coefficients $D_c$ of an image and the probability $p_y$ that a pixel has for its label $y$,

    $$w_D \operatorname*{mean}_c\, (-\log D_c)^\gamma + w_X \operatorname*{mean}_{\text{pixels}} w_y\, (-\log
    p_y)^\gamma.$$

    Below 1e-7 the logarithms count as that and have no gradient, which would be infinite at $\gamma < 1$.

    Args:
        dice_weight: Weight $w_D \ge 0$ of the Dice term.
        crossentropy_weight: Weight $w_X \ge 0$ of the cross-entropy.
        gamma: Exponent $\gamma > 0$ of both.
        class_weights: Weights $w_y$ of the labels, such as `losses.class_weights_from_frequencies` gives, or
            `None` for 1. For one channel those of background and foreground.
        smooth: Number that is added to numerator and denominator of the Dice coefficients, at least 0.
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

    loss = kr.losses.ExponentialLogarithmic(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Ken C. L. Wong and others, *3D Segmentation with Exponential Logarithmic Loss for Highly
    Unbalanced Object Sizes*, MICCAI 2018, arXiv:1809.00076.
    """

    def __init__(
        self,
        dice_weight: float = 0.8,
        crossentropy_weight: float = 0.2,
        gamma: float = 0.3,
        class_weights: Any = None,
        smooth: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.dice_weight = check_number("dice_weight", dice_weight, minimum=0)
        self.crossentropy_weight = check_number(
            "crossentropy_weight", crossentropy_weight, minimum=0
        )
        self.gamma = check_number("gamma", gamma, above=0)
        self.class_weights = check_weights(class_weights)
        self.smooth = check_number("smooth", smooth, minimum=0)

    def image_values(self, pixels):
        def power(log_x):
            return ops.power(maximum(-log_x, 1e-7), self.gamma)

        dice = mean(power(safe_log(dice_coefficients(self, pixels))), axis=-1)
        both = pixels.with_background()
        targets = ops.transpose(
            weighted(ops.transpose(both.targets, (0, 2, 1)), self.class_weights), (0, 2, 1)
        )
        entropy = self.mean(pixels, ops.sum(targets * power(both.log_probabilities), axis=1))
        return self.dice_weight * dice + self.crossentropy_weight * entropy
