"""A classification loss that sees standardised logits only."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import at_label
from keras_regularize.losses._slopes import by_slopes
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import GUARD, standardized
from keras_regularize.registration import export
from keras_regularize.scores import class_logits
from keras_regularize.validation import check_number


@export
class ZLoss(ClassLoss):
    r"""A ranking-minded classification loss that does not change when logits are shifted or scaled.

    With the mean $\mu$ and the population standard deviation $\sigma$ of a sample's $K$ logits $z$,

    $$\zeta = \frac{z_y - \mu}{\sigma}, \qquad \ell(y, z) = \frac1a \log\big(1 + e^{a (b - \zeta)}\big).$$

    The network cannot lower the loss by growing its logits, and $\zeta \le \sqrt{K - 1}$ bounds it. The
    loss trains the ranking of classes (top-1 and top-$k$ accuracy) and gives no probabilities: predict by
    `argmax`, and calibrate separately where probabilities are needed. It is a member of the spherical family,
    whose gradient can be had at a cost independent of $K$. Unrelated to the penalty on
    $\log^2 \sum_k e^{z_k}$ that language models call z-loss.

    Equal logits have no standardised form: $\zeta = 0$ there, with gradient 0. With two classes $\zeta = \pm 1$
    whatever the logits, so there is nothing to learn from: use three or more.

    Args:
        scale: $a > 0$, the steepness.
        shift: $b$, the standardised logit to reach. Up to $\sqrt{K - 1}$ makes sense: 3 for ten classes, tens for
            many thousands.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`, for which $\zeta$
            is the mean under the row. Further axes between batch and classes are positions.
        y_pred: Logits `(batch, classes)`, all of them finite: with a logit of -inf, a forbidden class, mean and
            deviation are infinite, and the loss is NaN.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `scale` is not positive, or if the shapes of labels and logits do not fit.

    Cost: about that of cross-entropy.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 10, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)])
    model.compile("adam", loss=kr.losses.ZLoss(shift=3.0), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    ```

    Reference: Alexandre de Brébisson and Pascal Vincent, *The Z-loss: a shift and scale invariant classification
    loss belonging to the Spherical Family*, 2016, arXiv:1604.08859.
    """

    from_logits = True

    def __init__(
        self,
        scale: float = 1.0,
        shift: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "z_loss",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.scale = check_number("scale", scale, above=0)
        self.shift = check_number("shift", shift)

    def values(self, labels, y_pred):
        return by_slopes(self._formula, self._slopes, labels, class_logits(y_pred))

    def _formula(self, labels, logits):
        mean = ops.sum(ops.stop_gradient(logits), axis=-1, keepdims=True) / logits.shape[-1]
        centred = logits - mean
        variance = ops.sum(ops.square(ops.stop_gradient(centred)), axis=-1) / logits.shape[-1]
        # A spread that is all rounding of the mean is none. Not `>`: NaN has to stay NaN.
        none = variance <= GUARD * ops.square(mean[..., 0]) + GUARD**2
        # One operation forward and one backward on torch, but on logits far from 0 it would round.
        zeta = ops.where(none, 0.0, at_label(labels, standardized(centred)))
        return ops.softplus(self.scale * (self.shift - zeta)) / self.scale

    def _slopes(self, labels, logits, room):
        classes = logits.shape[-1]
        mean = ops.sum(logits, axis=-1) / classes
        centred = logits - mean[..., None]
        # What the mean was rounded by.
        centred -= ops.sum(centred, axis=-1, keepdims=True) / classes
        variance = backend.in_place.squared_norm(centred) / classes
        none = variance <= GUARD * ops.square(mean) + GUARD**2
        deviation = ops.sqrt(ops.where(none, 1.0, variance))
        zeta = ops.where(none, 0.0, at_label(labels, centred) / deviation)
        lack = self.scale * (self.shift - zeta)
        slope = ops.where(none, 0.0, -ops.sigmoid(lack) / deviation)
        factor = (-slope * zeta / (deviation * classes))[..., None]
        if labels.rows is None:
            room[...] = centred * factor
            room -= (slope / classes)[..., None]
            backend.in_place.add_last(room, labels.ids, slope)
        else:
            room[...] = slope[..., None] * labels.rows
            room -= (slope * ops.sum(labels.rows, axis=-1) / classes)[..., None]
            room += centred * factor
        return ops.softplus(lack) / self.scale
