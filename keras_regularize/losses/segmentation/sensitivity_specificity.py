"""Squared errors inside and outside of a mask, each relative to its size."""

from typing import Any

from keras_regularize.losses.segmentation.region_loss import RegionLoss
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class SensitivitySpecificity(RegionLoss):
    r"""Squared error of a mask, averaged separately over the object and over all that is outside of it.

    With probabilities $p$, targets $y$ and sums over the pixels of an image, each class contributes

    $$r\, \frac{\sum (y - p)^2\, y}{\sum y + s} + (1 - r)\, \frac{\sum (y - p)^2 (1 - y)}{\sum (1 - y) + s},$$

    and the value of an image is the mean over the classes. The part of an object that is absent, or that leaves
    nothing outside, is 0.

    Args:
        sensitivity_weight: Weight $r$, in [0, 1], of the error on the object. The authors find 0.01 to 0.1
            much alike.
        smooth: Number $s > 0$ that is added to the denominators.
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

    loss = kr.losses.SensitivitySpecificity(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Tom Brosch and others, *Deep Convolutional Encoder Networks for Multiple Sclerosis Lesion
    Segmentation*, MICCAI 2015.
    """

    def __init__(self, sensitivity_weight: float = 0.05, smooth: float = 1e-5, **kwargs: Any):
        super().__init__(check_number("smooth", smooth, above=0), **kwargs)
        self.sensitivity_weight = check_number(
            "sensitivity_weight", sensitivity_weight, minimum=0, maximum=1
        )

    def class_values(self, pixels):
        y = pixels.labels
        outside = pixels.count(1.0 - y)
        squares = (y - pixels.probabilities) ** 2
        missed = self.total(squares * y) / (self.total(y) + self.smooth)
        alarms = self.total(squares * outside) / (self.total(outside) + self.smooth)
        return self.sensitivity_weight * missed + (1.0 - self.sensitivity_weight) * alarms
