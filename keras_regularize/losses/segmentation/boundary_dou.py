"""Difference over union, in which boundaries weigh as much as the shape of the object says."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import ratio
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import mean, minimum
from keras_regularize.ops.neighbours import eroded
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class BoundaryDoU(SegmentationLoss):
    r"""Boundary difference over union: the mismatch against a part of the intersection, as the object is large.

    With probabilities $p$, targets $y$ and sums over the pixels of a class,

    $$\frac{\sum p^2 + \sum y^2 - 2 \sum p\, y + s}{\sum p^2 + \sum y^2 - (1 + \alpha) \sum p\, y + s}, \qquad
      \alpha = \min\Big(1 - 2\, \frac{K + s}{S + s},\; \alpha_{\max}\Big),$$

    where $S$ are the pixels of the object and $K$ those among them with a neighbour outside of it, beyond the
    image too. The value is the mean over all classes. A large object has a large $\alpha$, which takes the
    inner pixels out of the denominator. $\alpha$ is negative for thin objects and -1 for an absent one.

    Args:
        maximum_alpha: Largest $\alpha$, below 1.
        smooth: Number $s > 0$ that is added to numerators and denominators.
        per_image: Whether sums are those of an image; else of the whole batch, as in the authors' code.
        **kwargs: `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: that of `SoftDice` and a comparison of the targets with their neighbours.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.BoundaryDoU(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Fan Sun, Zhiming Luo, Shaozi Li, *Boundary Difference Over Union Loss For Medical Image
    Segmentation*, MICCAI 2023, arXiv:2308.00220.
    """

    def __init__(
        self,
        maximum_alpha: float = 0.8,
        smooth: float = 1e-5,
        per_image: bool = False,
        **kwargs: Any,
    ):
        super().__init__(per_image, **kwargs)
        self.maximum_alpha = check_number("maximum_alpha", maximum_alpha, below=1)
        self.smooth = check_number("smooth", smooth, above=0)

    def image_values(self, pixels):
        p, y, s = pixels.probabilities, pixels.labels, self.smooth
        inner = ops.reshape(eroded(pixels.in_space(y)), ops.shape(y))
        size = self.total(y)
        alpha = 1.0 - 2.0 * (size - self.total(inner) + s) / (size + s)
        alpha = minimum(alpha, self.maximum_alpha)
        overlap = self.total(p * y)
        squares = self.total(p * p) + self.total(y * y)
        difference = squares - 2.0 * overlap
        return mean(ratio(difference, squares - (1.0 + alpha) * overlap, s), axis=-1)
