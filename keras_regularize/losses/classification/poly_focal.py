"""Polynomial correction of the focal loss with a sigmoid per class."""

import keras
from keras import ops

from keras_regularize.labels import Labels, label_rows, read_targets
from keras_regularize.losses._focal import focusing
from keras_regularize.losses._slopes import by_rows
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import mean, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class PolyFocal(ClassLoss):
    r"""Focal loss with a sigmoid per class and a tuned leading coefficient, as detectors use it.

    With $p_k = \sigma(z_k)$, targets $t_k$ and $P_k = t_k p_k + (1 - t_k)(1 - p_k)$, a sample contributes

    $$\frac1K \sum_k \alpha_k \Big( (1 - P_k)^\gamma \big(-t_k \log p_k - (1 - t_k) \log (1 - p_k)\big)
      + \epsilon\, (1 - P_k)^{\gamma + 1} \Big), \qquad \alpha_k = \alpha\, t_k + (1 - \alpha)(1 - t_k).$$

    `epsilon=0` is the sigmoid focal loss. Without `alpha`, $\alpha_k = 1$; it scales both terms, as in the listing
    of the paper's appendix.

    Args:
        epsilon: Shift $\epsilon$ of the leading coefficient. The paper's detectors are best at -1 to 2.
        gamma: Focusing exponent $\gamma \ge 0$.
        alpha: Balance of positives $\alpha$ in `[0, 1]`, 0.25 in detectors; `None` for none.
        from_logits: Whether `y_pred` are logits. Probabilities are clipped to `[1e-7, 1 - 1e-7]` as Keras does.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Multi-label rows `(batch, classes)` with entries in `[0, 1]`, or class ids `(batch,)` or
            `(batch, 1)`, which stand for one-hot rows. For a single output, targets `(batch,)` or `(batch, 1)`.
        y_pred: Logits or probabilities `(batch, classes)`, each class by itself; or `(batch, 1)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or if the shapes of labels and predictions do not fit.

    Cost: that of binary cross-entropy on all classes and a few elementwise passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 2, size=(64, 3))
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.PolyFocal(epsilon=-1.0, alpha=0.25, from_logits=True))
    model.fit(x, y, verbose=0)
    ```

    Reference: Zhaoqi Leng and others, *PolyLoss: A Polynomial Expansion Perspective of Classification Loss
    Functions*, ICLR 2022, arXiv:2204.12511.
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        gamma: float = 2.0,
        alpha: float | None = None,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "poly_focal",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.epsilon = check_number("epsilon", epsilon)
        self.gamma = check_number("gamma", gamma, minimum=0)
        self.alpha = check_number("alpha", alpha, minimum=0, maximum=1, optional=True)
        self.from_logits = bool(from_logits)

    def read(self, y_true, y_pred):
        if isinstance(y_true, Labels) or (len(y_pred.shape) > 1 and y_pred.shape[-1] > 1):
            return super().read(y_true, y_pred)
        return read_targets(y_true, y_pred, self.ignore_class)

    def call(self, y_true, y_pred):
        column = len(y_pred.shape) == 1
        return super().call(y_true, ops.expand_dims(y_pred, -1) if column else y_pred)

    def values(self, labels, y_pred):
        return by_rows(self._formula, labels, upcast(y_pred))

    def _formula(self, labels, outputs):
        t = label_rows(labels, outputs)
        if self.from_logits:
            p = ops.sigmoid(outputs)
            crossentropy = ops.softplus(outputs) - ops.where(ops.equal(t, 0), 0.0, t * outputs)
        else:
            epsilon = keras.config.epsilon()
            p, q = (ops.clip(x, epsilon, 1.0 - epsilon) for x in (outputs, 1.0 - outputs))
            crossentropy = -t * ops.log(p) - (1.0 - t) * ops.log(q)
        error = t + (1.0 - 2.0 * t) * p
        value = crossentropy + self.epsilon * error
        if self.alpha is not None:
            value = (1.0 - self.alpha + (2.0 * self.alpha - 1.0) * t) * value
        if self.gamma:
            value = focusing(error, self.gamma) * value
        return mean(value, axis=-1)
