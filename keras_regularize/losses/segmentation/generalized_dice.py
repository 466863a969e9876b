"""The Dice loss over all classes at once, small ones weighing more."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import RegionLoss, ratio
from keras_regularize.registration import export
from keras_regularize.validation import check_choice


@export
class GeneralizedDice(RegionLoss):
    r"""Dice loss of all classes in one fraction, in which small classes weigh more.

    With probabilities $p_c$, targets $y_c$ and sums over the pixels of an image, its value is

    $$1 - \frac{2 \sum_c w_c \sum p_c\, y_c + s}{\sum_c w_c \big(\sum p_c + \sum y_c\big) + s},
      \qquad w_c = \Big(\sum y_c\Big)^{-2}.$$

    A class that is absent has the largest weight of those present, so that predicting it is not free; if none is
    present, which only pixels to ignore make possible, the value is 0. Weights are constants of the gradient.

    Args:
        weighting: `"square"` as above, `"simple"` for the inverse of the size, `"uniform"` for 1.
        smooth: Number $s \ge 0$ that is added to numerator and denominator.
        include_background: Whether class 0 counts. Without effect for a single channel.
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

    Cost: that of `SoftDice`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.GeneralizedDice(from_logits=True, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Carole Sudre and others, *Generalised Dice Overlap as a Deep Learning Loss Function for Highly
    Unbalanced Segmentations*, DLMIA 2017, arXiv:1707.03237.
    """

    def __init__(
        self,
        weighting: str = "square",
        smooth: float = 1e-5,
        include_background: bool = True,
        **kwargs: Any,
    ):
        super().__init__(smooth, include_background, **kwargs)
        self.weighting = check_choice("weighting", weighting, ("square", "simple", "uniform"))

    def image_values(self, pixels):
        overlap, predicted, size = self.overlaps(self.of_classes(pixels))
        present = size > 0
        weights = 1.0 / ops.where(present, size, float("inf"))
        if self.weighting == "square":
            weights = weights * weights
        elif self.weighting == "uniform":
            weights = ops.cast(present, size.dtype)
        largest = ops.max(weights, axis=-1, keepdims=True, initial=0.0)  # Also of an empty batch.
        weights = ops.stop_gradient(ops.where(present, weights, largest))

        def over_classes(x):
            return ops.sum(weights * x, axis=-1)

        return 1.0 - ratio(over_classes(2.0 * overlap), over_classes(predicted + size), self.smooth)
