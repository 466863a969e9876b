"""Seesaw loss: less pressure of frequent classes on rare ones."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import label_ids, mean_under, pick
from keras_regularize.losses._slopes import by_rows, by_slopes
from keras_regularize.losses.imbalance._counts import (
    check_classes,
    check_counts,
    constants,
    entries,
)
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import maximum
from keras_regularize.registration import export
from keras_regularize.scores import class_logits, label_log_probability
from keras_regularize.validation import check_number


@export
class Seesaw(ClassLoss):
    r"""Cross-entropy that spares rare classes the negative gradients of frequent ones, unless they err.

    With class counts $n$, probabilities $p = \operatorname{softmax}(z)$ and the label $y$, a sample contributes

    $$-\log \frac{e^{z_y}}{e^{z_y} + \sum_{k \ne y} M_{yk} C_{yk}\, e^{z_k}}, \qquad
      M_{yk} = \min\Big(1, \frac{n_k}{n_y}\Big)^p, \qquad
      C_{yk} = \max\Big(1, \frac{p_k}{\max(p_y, 0.01)}\Big)^q .$$

    The mitigation $M$ lowers the pressure that a sample of a frequent class puts on the logits of rarer ones; the
    compensation $C$, which has no gradient, raises it again where the model prefers the wrong class. `p=0,
    q=0` is cross-entropy. The original accumulates the counts during training; here they are given.

    Args:
        class_counts: Training samples of each class, a list of positive numbers.
        p: Exponent $p \ge 0$ of the mitigation.
        q: Exponent $q \ge 0$ of the compensation.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`, whose largest
            entry is the label $y$ of the factors. Further axes between batch and classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `class_counts` are not positive numbers, one per class, an exponent is negative, or if the
            shapes of labels and logits do not fit.

    Cost: a second softmax without gradient and a few elementwise passes more than cross-entropy.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.repeat([0, 1, 2], [50, 10, 4])
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.Seesaw(np.bincount(y)))
    model.fit(x, y, verbose=0)
    ```

    Reference: Jiaqi Wang and others, *Seesaw Loss for Long-Tailed Instance Segmentation*, CVPR 2021,
    arXiv:2008.10032.
    """

    from_logits = True

    def __init__(
        self,
        class_counts: Sequence[float],
        p: float = 0.8,
        q: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "seesaw",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.class_counts = check_counts(class_counts)
        self.p = check_number("p", p, minimum=0)
        self.q = check_number("q", q, minimum=0)
        log_counts = self.p * np.log(np.asarray(self.class_counts, "float64"))
        log_counts -= log_counts.max()
        self._log_counts, self._powers = constants(log_counts), constants(np.exp(log_counts))
        self._spread = self.q * math.log(100.0) - log_counts.min()

    def values(self, labels, y_pred):
        logits = class_logits(y_pred)
        check_classes(self.class_counts, logits)
        if self._spread > 80.0:  # Factors of which float32 does not hold all.
            return by_rows(self._formula, labels, logits)
        return by_slopes(self._formula, self._slopes, labels, logits)

    def _formula(self, labels, logits):
        ids = label_ids(labels, logits)
        # Large logits would round the weights away, log-probabilities do not.
        log_p = backend.log_softmax(logits)
        constant = ops.stop_gradient(log_p)
        own = backend.take_last(constant, ids[..., None])
        # -log M and log C; the clipped logarithm of the label's probability is a constant of the sample.
        log_counts = ops.cast(self._log_counts, logits.dtype)
        own_count = ops.cast(entries(self._log_counts, ids), logits.dtype)
        mitigation = ops.relu(own_count[..., None] - log_counts)
        compensation = self.q * ops.relu(constant - maximum(own, math.log(0.01)))
        adjusted = log_p + (compensation - mitigation)
        return -label_log_probability(labels, adjusted, from_logits=True)

    def _slopes(self, labels, logits, room):
        ids = label_ids(labels, logits)
        first = backend.first_maximum(logits)
        backend.in_place.softmax(room, logits)
        # Log-probabilities are the logits less these two, one after the other: large ones would round the second.
        top, normalizer = pick(logits, first), -ops.log(pick(room, first))
        own = pick(logits, ids) - top - normalizer
        factors = room * ops.exp(-maximum(own, math.log(0.01)))[..., None]
        factors = backend.power(backend.in_place.clip(factors, low=1.0), self.q)
        # C, and M but for a number per sample, which no softmax sees.
        powers = ops.convert_to_tensor(self._powers, logits.dtype)
        own_power = ops.convert_to_tensor(entries(self._powers, ids), logits.dtype)
        factors *= ops.minimum(powers, own_power[..., None])
        room *= factors
        total = ops.sum(room, axis=-1)
        room *= (1.0 / total)[..., None]
        if labels.rows is None:
            backend.in_place.add_last(room, ids, -1.0)
            return ops.log(total / pick(factors, ids)) - own
        weight = ops.sum(labels.rows, axis=-1)
        room *= weight[..., None]
        room -= labels.rows
        adjusted = logits - top[..., None] - normalizer[..., None] + ops.log(factors)
        return weight * ops.log(total) - mean_under(labels.rows, adjusted)
