"""Margin-based label smoothing."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses._slopes import below_margin, by_slopes, crossentropy_slopes
from keras_regularize.losses.calibration._maximum import crossentropy_from_maximum
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.registration import export
from keras_regularize.scores import class_logits
from keras_regularize.validation import check_number


@export
class MbLS(ClassLoss):
    r"""Cross-entropy with a bound on how far the top logit may lead.

    With logits $z$ over $K$ classes each sample contributes

    $$-\log \operatorname{softmax}(z)_y + \frac{\alpha}{K} \sum_k \Big[ \max_j z_j - z_k - M \Big]_+ .$$

    Label smoothing pulls all logit distances to zero. Here distances within the margin $M$ are free, so
    confidence stays bounded without flattening the predictions. The gradient flows through the maximum, at
    ties the first one. The value does not change when a constant is added to all logits of a sample. `alpha=0`
    is cross-entropy.

    Args:
        alpha: Weight $\alpha \ge 0$ of the penalty.
        margin: $M \ge 0$, in units of logits. 6 to 10; smaller for smaller networks.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0. The
            distance to a logit of -inf, a forbidden class, and so the loss are infinite, unless `alpha` is 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If an argument is negative, or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy and a few elementwise passes over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.MbLS(margin=6.0))
    model.fit(x, y, verbose=0)
    ```

    Reference: Bingyuan Liu, Ismail Ben Ayed, Adrian Galdran and Jose Dolz, *The Devil is in the Margin:
    Margin-based Label Smoothing for Network Calibration*, CVPR 2022, arXiv:2111.15430.
    """

    from_logits = True

    def __init__(
        self,
        alpha: float = 0.1,
        margin: float = 10.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mbls",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=0)
        self.margin = check_number("margin", margin, minimum=0)

    def values(self, labels, y_pred):
        return by_slopes(self._formula, self._slopes, labels, class_logits(y_pred))

    def _formula(self, labels, logits):
        crossentropy, x, top = crossentropy_from_maximum(labels, logits)
        if self.alpha == 0:
            return crossentropy
        # Not `relu`: XLA for CPUs takes three times as long over the mean of a sum of these.
        lead = ops.threshold((top - self.margin)[..., None] - x, 0.0, 0.0)
        return (self.alpha / x.shape[-1]) * ops.sum(lead, axis=-1) + crossentropy

    def _slopes(self, labels, logits, room):
        values, first, top = crossentropy_slopes(labels, logits, room)
        if self.alpha == 0:
            return values
        factor = self.alpha / logits.shape[-1]
        below = below_margin(logits, top, self.margin)
        values -= factor * ops.sum(below, axis=-1)
        signs = factor * ops.sign(below)
        room += signs
        backend.in_place.add_last(room, first, -ops.sum(signs, axis=-1))
        return values
