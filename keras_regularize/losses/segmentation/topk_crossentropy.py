"""Cross-entropy of the pixels that are hardest."""

import math
from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class TopKCrossentropy(SegmentationLoss):
    r"""Cross-entropy of the hardest pixels: its mean over the given share of them.

    With the cross-entropies $\ell_{(1)} \ge \ell_{(2)} \ge \dots$ of the $M$ pixels of an image, in descending
    order, its value is

    $$\frac1k \sum_{i=1}^k \ell_{(i)}, \qquad k = \max(1, \lfloor f M \rfloor).$$

    Easy pixels, most of an image, have no gradient. `fraction=1` is the mean cross-entropy. Pixels to ignore are
    zeros among the $M$.

    Args:
        fraction: Share $f$ of pixels that count, in (0, 1].
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

    Cost: that of cross-entropy and a partial sort of the pixels.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.TopKCrossentropy(0.1, from_logits=True, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Zifeng Wu, Chunhua Shen, Anton van den Hengel, *Bridging Category-level and Instance-level
    Semantic Image Segmentation*, 2016, arXiv:1605.06885.
    """

    def __init__(self, fraction: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.fraction = check_number("fraction", fraction, above=0, maximum=1)

    def image_values(self, pixels):
        values = self.grouped(pixels.crossentropy()[:, None])[:, 0]
        number = ops.shape(values)[-1]
        if isinstance(number, int):
            k = min(number, max(1, math.floor(self.fraction * number)))
        else:
            share = self.fraction * ops.cast(number, "float32")
            k = ops.minimum(ops.maximum(ops.cast(share, "int32"), 1), number)
        return mean(ops.top_k(values, k)[0], axis=-1)
