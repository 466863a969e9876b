"""Adaptive and conditional label smoothing."""

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses._slopes import below_margin, by_slopes, crossentropy_slopes
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.registration import export
from keras_regularize.scores import class_logits, crossentropy, relative, shifted
from keras_regularize.validation import check_number


@export
class ACLS(ClassLoss):
    r"""Cross-entropy that smooths a label only as far as the prediction is over-confident.

    With logits $z$ over $K$ classes, $m = \max_k z_k$ and $[\cdot]_+$ the positive part, each sample contributes

    $$-\log \operatorname{softmax}(z)_y + \alpha \Big( \lambda_1 \sum_{k:\, z_k = m} [z_k - M]_+^2
      + \frac{\lambda_2}{K - 1} \sum_{k:\, z_k < m} [\operatorname{sg}(m) - z_k - M]_+^2 \Big).$$

    The predicted class is pushed below the margin $M$, the others are pulled up to within $M$ of it, each the
    harder the further it is off. The label does not enter the penalty, and there is none while all
    logits lie in $[m - M, M]$. $\operatorname{sg}$ means that the top logit gets no gradient from the second
    sum. `alpha=0` is cross-entropy.

    Args:
        alpha: Weight of the whole penalty, $\alpha \ge 0$.
        positive_factor: Weight $\lambda_1 \ge 0$ of the predicted class.
        negative_factor: Weight $\lambda_2 \ge 0$ of the other classes.
        margin: $M \ge 0$, in units of logits, the same for both terms. 10 is for ResNets; for small networks 3
            to 6 is right: choose it below the largest logits that plain cross-entropy reaches.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`, which only
            the cross-entropy sees. Further axes between batch and classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0. A logit
            of -inf, a forbidden class, makes the second sum and so the loss infinite, unless `alpha` or
            `negative_factor` is 0.

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
    model.compile("adam", loss=kr.losses.ACLS(margin=6.0))
    model.fit(x, y, verbose=0)
    ```

    Reference: Hyekang Park, Jongyoun Noh, Youngmin Oh, Donghyeon Baek and Bumsub Ham, *ACLS: Adaptive and
    Conditional Label Smoothing for Network Calibration*, ICCV 2023, arXiv:2308.11911.
    """

    from_logits = True

    def __init__(
        self,
        alpha: float = 0.1,
        positive_factor: float = 1.0,
        negative_factor: float = 0.1,
        margin: float = 10.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "acls",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=0)
        self.positive_factor = check_number("positive_factor", positive_factor, minimum=0)
        self.negative_factor = check_number("negative_factor", negative_factor, minimum=0)
        self.margin = check_number("margin", margin, minimum=0)

    def values(self, labels, y_pred):
        return by_slopes(self._formula, self._slopes, labels, class_logits(y_pred))

    def _formula(self, labels, logits):
        values = crossentropy(labels, *relative(logits))
        x, top = shifted(logits)
        # A term of weight 0 is left out: at a forbidden class it would be 0 times infinity.
        if self.alpha * self.positive_factor > 0:
            over = ops.where(ops.stop_gradient(x) >= 0, x + (top - self.margin), 0.0)
            tops = ops.sum(ops.square(ops.relu(over)), axis=-1)
            values = values + self.alpha * self.positive_factor * tops
        if self.alpha * self.negative_factor > 0:
            # 0 within the margin; the tops themselves are not below a margin of at least 0, so they need no mask.
            under = ops.sum(ops.square(ops.soft_shrink(x, self.margin)), axis=-1)
            values = values + self.alpha * self.negative_factor / (x.shape[-1] - 1) * under
        return values

    def _slopes(self, labels, logits, room):
        values, first, top = crossentropy_slopes(labels, logits, room)
        factor = self.alpha * self.positive_factor
        if factor > 0:
            over = ops.relu(top - self.margin)
            tops = backend.peek(logits) == backend.peek(top)[..., None]
            if np.count_nonzero(tops) == tops[..., 0].size:  # No ties.
                values += factor * ops.square(over)
                backend.in_place.add_last(room, first, 2.0 * factor * over)
            else:
                tops = ops.convert_to_tensor(tops, logits.dtype)
                values += factor * ops.square(over) * ops.sum(tops, axis=-1)
                room += tops * (2.0 * factor * over)[..., None]
        factor = self.alpha * self.negative_factor / (logits.shape[-1] - 1)
        if factor > 0:
            below = below_margin(logits, top, self.margin)
            values += factor * backend.in_place.squared_norm(below)
            below *= 2.0 * factor
            room += below
        return values
