"""One minus the intersection over the union."""

from keras_regularize.losses.segmentation.region_loss import RegionLoss, ratio
from keras_regularize.registration import export


@export
class Jaccard(RegionLoss):
    r"""Jaccard loss: one minus the intersection over the union of prediction and mask.

    With probabilities $p$, targets $y$ and sums over the pixels of an image, each class contributes

    $$1 - \frac{\sum p\, y + s}{\sum p + \sum y - \sum p\, y + s},$$

    and the value of an image is the mean over the classes. An absent class that is predicted nowhere costs
    nothing. `LovaszSoftmax` is another continuation of the same index for hard predictions.

    Args:
        smooth: Number $s \ge 0$ that is added to numerator and denominator.
        include_background: Whether class 0 counts. Without effect for a single channel.
        class_weights: Numbers by which the losses of the classes that count are multiplied before their mean.
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

    loss = kr.losses.Jaccard(from_logits=True, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Md Atiqur Rahman, Yang Wang, *Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation*, ISVC 2016.
    """

    def class_values(self, pixels):
        overlap, predicted, size = self.overlaps(pixels)
        return 1.0 - ratio(overlap, predicted + size - overlap, self.smooth)
