"""The Tversky index, in which misses and false alarms weigh differently, to a power."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import RegionLoss, ratio
from keras_regularize.numerics import maximum
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class FocalTversky(RegionLoss):
    r"""Tversky loss to a power: overlap in which misses cost more than false alarms.

    With probabilities $p$, targets $y$ and sums over the pixels of an image, each class contributes

    $$\max(1 - T, 10^{-7})^\gamma, \qquad
      T = \frac{\sum p\, y + s}{\sum p\, y + \alpha \sum p\,(1 - y) + \beta \sum (1 - p)\, y + s}.$$

    The value of an image is the mean over the classes. `gamma=1` is the Tversky loss; with weights of ½ that is
    `SoftDice` (at twice the smoothing), with weights of 1 `Jaccard`. Below the bound the gradient is 0: where
    $\gamma < 1$ it would be infinite. The weights of `keras.losses.Tversky` are exchanged: its `alpha` acts on
    misses.

    Args:
        false_positive_weight: Weight $\alpha \ge 0$ of false alarms.
        false_negative_weight: Weight $\beta \ge 0$ of misses. Larger values raise the recall.
        gamma: Exponent $\gamma > 0$. The paper writes $1 / \gamma$ and takes $\gamma = 4/3$ there.
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

    Cost: that of `SoftDice`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.FocalTversky(false_negative_weight=0.9, false_positive_weight=0.1, from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Nabila Abraham, Naimul Mefraz Khan, *A Novel Focal Tversky loss function with improved Attention
    U-Net for lesion segmentation*, ISBI 2019, arXiv:1810.07842. The index: Seyed Sadegh Mohseni Salehi, Deniz
    Erdogmus, Ali Gholipour, *Tversky loss function for image segmentation using 3D fully convolutional deep
    networks*, MLMI 2017, arXiv:1706.05721.
    """

    def __init__(
        self,
        false_positive_weight: float = 0.3,
        false_negative_weight: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(smooth, **kwargs)
        self.false_positive_weight = check_number(
            "false_positive_weight", false_positive_weight, minimum=0
        )
        self.false_negative_weight = check_number(
            "false_negative_weight", false_negative_weight, minimum=0
        )
        self.gamma = check_number("gamma", gamma, above=0)

    def class_values(self, pixels):
        overlap, predicted, size = self.overlaps(pixels)
        wrong = self.false_positive_weight * (predicted - overlap)
        wrong = wrong + self.false_negative_weight * (size - overlap)
        index = ratio(overlap, overlap + wrong, self.smooth)
        if self.gamma == 1:
            return 1.0 - index
        return ops.power(maximum(1.0 - index, 1e-7), self.gamma)
