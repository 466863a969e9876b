"""Cross-entropy with the class prior in the logits."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_regularize.losses._slopes import by_slopes, crossentropy_slopes
from keras_regularize.losses.imbalance._counts import check_classes, check_counts, constants
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.registration import export
from keras_regularize.scores import class_logits, label_log_probability, shifted
from keras_regularize.validation import check_number


@export
class LogitAdjusted(ClassLoss):
    r"""Cross-entropy that takes the class prior out of what the network learns (balanced softmax).

    With class counts $n_k$ and the prior $\pi_k = n_k / \sum_j n_j$,

    $$\ell(y, z) = -\log \frac{e^{z_y + \tau \log \pi_y}}{\sum_k e^{z_k + \tau \log \pi_k}} .$$

    In training the prior is added to the logits, so the network need not learn it; at test time the plain
    logits $z$ are for balanced classes, and their argmax minimises the balanced error (mean of the classes'
    error rates) for $\tau = 1$, which is the balanced softmax. `tau=0`, or equal counts, is cross-entropy.
    Do not also resample or reweight the classes.

    Args:
        class_counts: Training samples of each class, a list of positive numbers; proportions do as well.
        tau: Strength $\tau$ of the adjustment.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `class_counts` are not positive numbers, one per class, or if the shapes of labels and
            logits do not fit.

    Cost: that of cross-entropy and three passes over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.repeat([0, 1, 2], [50, 10, 4])
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.LogitAdjusted(np.bincount(y)))
    model.fit(x, y, verbose=0)
    ```

    Reference: Aditya Krishna Menon and others, *Long-Tail Learning via Logit Adjustment*, ICLR 2021,
    arXiv:2007.07314. Jiawei Ren and others, *Balanced Meta-Softmax for Long-Tailed Visual Recognition*,
    NeurIPS 2020, arXiv:2007.10740.
    """

    from_logits = True

    def __init__(
        self,
        class_counts: Sequence[float],
        tau: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "logit_adjusted",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.class_counts = check_counts(class_counts)
        self.tau = check_number("tau", tau)
        counts = np.asarray(self.class_counts, "float64")
        self._shift = constants(self.tau * np.log(counts / counts.sum()))

    def values(self, labels, y_pred):
        logits = class_logits(y_pred)
        check_classes(self.class_counts, logits)
        return by_slopes(self._formula, self._slopes, labels, logits)

    def _formula(self, labels, logits):
        # Shifted first: large logits would round the prior away.
        adjusted = ops.add(shifted(logits)[0], self._shift)
        return -label_log_probability(labels, adjusted, from_logits=True)

    def _slopes(self, labels, logits, room):
        adjusted, _ = shifted(logits)
        adjusted += ops.convert_to_tensor(self._shift, adjusted.dtype)
        values, *_ = crossentropy_slopes(labels, adjusted, room)
        return values
