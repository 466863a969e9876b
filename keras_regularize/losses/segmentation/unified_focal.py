"""Focal cross-entropy and focal Tversky loss under common exponents."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import ratio
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import maximum, mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class UnifiedFocal(SegmentationLoss):
    r"""Focal cross-entropy and focal Tversky loss with one exponent: enhances the object, suppresses the rest.

    With channel 0 the background, $\tilde d = \max(1 - T, 10^{-7})$ for the Tversky indices $T_c$ with weights
    $\delta$ of misses and $1 - \delta$ of false alarms, an image of $N$ pixels and $C$ classes has the value

    $$\frac{w}{C} \Big( \tilde d_0 + \sum_{c \ge 1} \tilde d_c^{\,1 - \gamma} \Big) + \frac{w - 1}{N} \sum \Big(
      (1 - \delta)\, y_0 (1 - p_0)^\gamma \log p_0 + \delta \sum_{c \ge 1} y_c \log p_c \Big).$$

    If not `asymmetric`, the background's $\tilde d_0$ has the exponent $1 - \gamma$ too and the foreground's
    $\log p_c$ the factor $(1 - p_c)^\gamma$. A single channel counts as two. Foreground classes are alike; the
    paper has one.

    Args:
        weight: Weight $w$ of the Tversky loss, in [0, 1]; in the paper $\lambda = 1 - w$ weighs the cross-entropy.
        delta: Weight $\delta$ of the foreground and of misses, in [0, 1].
        gamma: Exponent $\gamma$, in [0, 1).
        asymmetric: Whether background is suppressed and foreground enhanced by different terms.
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

    loss = kr.losses.UnifiedFocal(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Michael Yeung and others, *Unified Focal loss: Generalising Dice and cross entropy-based losses
    to handle class imbalanced medical image segmentation*, Computerized Medical Imaging and Graphics 2022,
    arXiv:2102.04525.
    """

    def __init__(
        self,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        asymmetric: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.weight = check_number("weight", weight, minimum=0, maximum=1)
        self.delta = check_number("delta", delta, minimum=0, maximum=1)
        self.gamma = check_number("gamma", gamma, minimum=0, below=1)
        self.asymmetric = bool(asymmetric)

    def image_values(self, pixels):
        both = pixels.with_background()
        focal = self.mean(pixels, self._focal(both))
        return self.weight * self._tversky(both) + (1.0 - self.weight) * focal

    def _focal(self, pixels):
        """Of each pixel, `(batch, pixels)`."""
        y, log_p = pixels.targets, pixels.log_probabilities
        background, foreground = -y[:, 0] * log_p[:, 0], -y[:, 1:] * log_p[:, 1:]
        background = background * self._focusing(log_p[:, 0])
        if not self.asymmetric:
            foreground = foreground * self._focusing(log_p[:, 1:])
        return (1.0 - self.delta) * background + self.delta * ops.sum(foreground, axis=1)

    def _focusing(self, log_p):
        return ops.power(maximum(-ops.expm1(log_p), 1e-7), self.gamma)

    def _tversky(self, pixels):
        """Of each image, `(batch,)`."""
        p, y = pixels.probabilities, pixels.labels
        overlap, predicted, size = self.total(p * y), self.total(p), self.total(y)
        wrong = self.delta * (size - overlap) + (1.0 - self.delta) * (predicted - overlap)
        distance = maximum(1.0 - ratio(overlap, overlap + wrong, 1e-7), 1e-7)
        focal = ops.power(distance, 1.0 - self.gamma)
        if self.asymmetric:
            focal = ops.concatenate([distance[:, :1], focal[:, 1:]], axis=1)
        return mean(focal, axis=-1)
