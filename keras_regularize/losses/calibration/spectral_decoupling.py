"""Cross-entropy with a squared penalty on the logits."""

from collections.abc import Collection, Sequence

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses._slopes import by_slopes, crossentropy_slopes
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.scores import label_log_probability
from keras_regularize.validation import check_number


@export
class SpectralDecoupling(ClassLoss):
    r"""Cross-entropy with squared logits, so that an easy feature cannot starve the others of gradient.

    With logits $z$ of $K$ outputs each sample contributes

    $$-\log p_y + \lambda\, \frac1K \sum_k (z_k - \tau_y)^2 .$$

    It replaces weight decay. The logits stay finite, over-confidence falls, and every predictive feature keeps
    being learnt: a separable binary problem settles where $\sigma(-z) = 2 \lambda z$. With one output, the logit
    of class 1, $K = 1$ and the first term is $\log(1 + e^{\mp z})$. `factor=0` is cross-entropy.
    `kr.regularizers.SpectralDecoupling` is the penalty alone.

    The paper writes $\lambda / 2$; its code, followed here, has no factor 1/2.

    Args:
        factor: $\lambda \ge 0$, of the order of 1e-3 to 1e-1. Set L2 penalties and weight decay to zero.
        target: $\tau$, a number, or a list with one for each class that the sample may have. The authors use
            `[0.44, 2.5]` with `factor=0.1` on CelebA, whose classes are unbalanced.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`; the target of
            a soft row is the mean of its classes'. Further axes between batch and classes are positions.
        y_pred: Logits `(batch, classes)`, or `(batch, 1)` of class 1. The square of a logit of -inf, a forbidden
            class, and so the loss are infinite, unless `factor` is 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `factor` is negative, `target` is neither a number nor a list of one number per class,
            or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy and two elementwise passes over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.SpectralDecoupling(0.01))
    model.fit(x, y, verbose=0)
    ```

    Reference: Mohammad Pezeshki, Sékou-Oumar Kaba, Yoshua Bengio, Aaron Courville, Doina Precup and Guillaume
    Lajoie, *Gradient Starvation: A Learning Proclivity in Neural Networks*, 2021, arXiv:2011.09468.
    """

    from_logits = True

    def __init__(
        self,
        factor: float = 0.1,
        target: float | Sequence[float] = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "spectral_decoupling",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.factor = check_number("factor", factor, minimum=0)
        self.target = (
            [check_number("target", t) for t in target]
            if isinstance(target, Collection)
            else check_number("target", target)
        )

    def values(self, labels, y_pred):
        logits = upcast(y_pred)
        if logits.shape[-1] == 1:
            return self._formula(labels, logits)
        return by_slopes(self._formula, self._slopes, labels, logits)

    def _formula(self, labels, logits):
        label = label_log_probability(labels, logits, from_logits=True)
        if self.factor == 0:
            return -label
        distance = logits if self.target == 0 else logits - self._target(labels, logits)
        size = ops.sum(distance * distance, axis=-1) / logits.shape[-1]
        return self.factor * size - label

    def _slopes(self, labels, logits, room):
        values, *_ = crossentropy_slopes(labels, logits, room)
        if self.factor == 0:
            return values
        factor = self.factor / logits.shape[-1]
        distance = logits if self.target == 0 else logits - self._target(labels, logits)
        room += (2.0 * factor) * distance
        return values + factor * backend.in_place.squared_norm(distance)

    def _target(self, labels, logits):
        if not isinstance(self.target, list):
            return self.target
        classes = max(logits.shape[-1], 2)
        if len(self.target) != classes:
            raise ValueError(
                f"`target` must be a number or have one entry for each of the {classes} classes. "
                f"Received: target={self.target}"
            )
        targets = np.asarray(self.target, "float32")
        if labels.rows is None:
            return ops.expand_dims(ops.take(targets, labels.ids, axis=0), -1)
        return ops.sum(ops.multiply(labels.rows, targets), axis=-1, keepdims=True)
