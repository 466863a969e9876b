"""The Dice loss with defined values at empty masks, and its log-cosh form."""

import math
from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import RegionLoss, ratio
from keras_regularize.registration import export


@export
class SoftDice(RegionLoss):
    r"""Dice loss: one minus the overlap of prediction and mask relative to their sizes.

    With probabilities $p$, targets $y$ and sums over the pixels of an image, each class contributes

    $$1 - \frac{2 \sum p\, y + s}{\sum p^o + \sum y^o + s}$$

    with $o = 1$, or $o = 2$ if `squared`, the form of V-Net; the value of an image is the mean over the
    classes. It is the loss of small objects: a class counts the same however few pixels it has. An absent class
    that is predicted nowhere costs nothing, where `keras.losses.Dice` charges 1. On hard predictions and
    without smoothing, with the Jaccard index $J$ the value is $1 - 2 J / (1 + J)$.

    Args:
        squared: Whether sizes are sums of squares.
        smooth: Number $s \ge 0$ that is added to numerator and denominator.
        **kwargs: `include_background`, `class_weights`, `per_image`, `from_logits`, `ignore_class`, `name`,
            `reduction` and `dtype` as in `losses.RegionLoss` and `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: one softmax, if from logits, and four passes over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.SoftDice(from_logits=True, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Fausto Milletari, Nassir Navab, Seyed-Ahmad Ahmadi, *V-Net: Fully Convolutional Neural Networks for
    Volumetric Medical Image Segmentation*, 2016, arXiv:1606.04797.
    """

    def __init__(self, smooth: float = 1e-5, squared: bool = False, **kwargs: Any):
        super().__init__(smooth, **kwargs)
        self.squared = bool(squared)

    def class_values(self, pixels):
        overlap, predicted, size = self.overlaps(pixels)
        if self.squared:
            predicted = self.total(pixels.probabilities * pixels.probabilities)
            size = self.total(pixels.labels * pixels.labels)
        return 1.0 - ratio(2.0 * overlap, predicted + size, self.smooth)


@export
class LogCoshDice(SoftDice):
    r"""Logarithm of the hyperbolic cosine of the Dice loss, which flattens near the optimum.

    With the value $d$ of `SoftDice` for an image, after the mean over classes, its value is

    $$\log \cosh d = d + \log(1 + e^{-2 d}) - \log 2,$$

    about $d^2 / 2$ near 0 and 0.434 where nothing overlaps. The gradient is that of `SoftDice` times $\tanh d$.

    Args:
        smooth: Number $s \ge 0$ that is added to numerator and denominator.
        squared: Whether sizes are sums of squares, as in `SoftDice`.
        **kwargs: `include_background`, `class_weights`, `per_image`, `from_logits`, `ignore_class`, `name`,
            `reduction` and `dtype` as in `losses.RegionLoss` and `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: that of `SoftDice`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.LogCoshDice(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Shruti Jadon, *A survey of loss functions for semantic segmentation*, CIBCB 2020, arXiv:2006.14822.
    """

    def image_values(self, pixels):
        dice = super().image_values(pixels)
        return dice + ops.softplus(-2.0 * dice) - math.log(2.0)
