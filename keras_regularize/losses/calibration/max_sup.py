"""Max suppression: label smoothing's penalty, moved from the label's logit to the largest one."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses._slopes import by_slopes, crossentropy_slopes
from keras_regularize.losses.calibration._maximum import crossentropy_from_maximum
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.registration import export
from keras_regularize.scores import class_logits
from keras_regularize.validation import check_number


@export
class MaxSup(ClassLoss):
    r"""Cross-entropy with max suppression, a label smoothing that corrects wrong predictions too.

    With logits $z$ over $K$ classes and label $y$, each sample contributes

    $$\ell(y, z) = -\log \operatorname{softmax}(z)_y
      + \lambda \Big( \max_k z_k - \frac1K \sum_k z_k \Big).$$

    Label smoothing of strength $\lambda$ equals cross-entropy plus
    $\lambda\,(z_y - \frac1K \sum_k z_k)$. Where the model is wrong, that pushes the label's logit
    down although it is too low already. MaxSup penalises the largest logit instead. The two losses
    are equal whenever the top logit is the label's; with `factor=0` this is plain cross-entropy.
    The value does not change when a constant is added to all logits of a sample. At ties the
    first of the top logits has the gradient.

    The authors raise $\lambda$ linearly from 0.1 to 0.2 during training. A loss cannot be
    scheduled, so `factor` is constant here.

    Args:
        factor: Strength of the penalty, $\lambda$ in the formula. Non-negative float; the authors
            use 0.1 to 0.2. Larger values lower the confidence and may cause under-confidence on
            small data.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`.
            Further axes between batch and classes are positions, for instance `(batch, time)` ids.
        y_pred: Logits `(batch, classes)`, not probabilities. A single column is the logit of class
            1 against a logit of 0 for class 0. A logit of -inf, a forbidden class, makes the mean
            and so the loss infinite, unless `factor` is 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or per position `(batch, time)`,
        else a scalar.

    Raises:
        ValueError: If `factor` is negative, or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy and three more elementwise passes over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.MaxSup(0.1), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    ```

    Reference: Yuxuan Zhou and others, *MaxSup: Overcoming Representation Collapse in Label Smoothing*, NeurIPS
    2025, arXiv:2502.15798.
    """

    from_logits = True

    def __init__(
        self,
        factor: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "max_sup",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.factor = check_number("factor", factor, minimum=0)

    def values(self, labels, y_pred):
        return by_slopes(self._formula, self._slopes, labels, class_logits(y_pred))

    def _formula(self, labels, logits):
        crossentropy, x, top = crossentropy_from_maximum(labels, logits)
        if self.factor == 0:
            return crossentropy
        mean = ops.sum(x, axis=-1) / x.shape[-1]  # `ops.mean` rounds float64 to float32 on torch.
        return self.factor * (top - mean) + crossentropy

    def _slopes(self, labels, logits, room):
        values, first, top = crossentropy_slopes(labels, logits, room)
        if self.factor == 0:
            return values
        factor = self.factor / logits.shape[-1]
        room -= factor
        backend.in_place.add_last(room, first, self.factor)
        return values - factor * ops.sum(logits - top[..., None], axis=-1)
