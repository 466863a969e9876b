"""Cross-entropy in both directions."""

import math

from keras import ops

from keras_regularize.labels import mean_under, short_labels
from keras_regularize.losses._focal import log_probability_and_error
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_number

_FLOOR = 1e-4  # Of target probabilities, whose logarithm is taken.


@export
class SymmetricCrossentropy(ClassLoss):
    r"""Cross-entropy plus reverse cross-entropy, for training on partly wrong labels.

    $$\ell(t, p) = -\alpha \sum_k t_k \log p_k - \beta \sum_k p_k \log \operatorname{clip}(t_k, 10^{-4}, 1).$$

    For a hard label the second term is $9.21\,\beta\,(1 - p_y)$, the mean absolute error: it is bounded, so no
    wrong label can pull without limit, while the first term keeps training from stalling. `beta=0` is
    $\alpha$ times cross-entropy. The authors' code also clips $p$ at 1e-7 in the second term, which changes
    the value by less than 1e-6 per class.

    Args:
        alpha: Weight $\alpha \ge 0$ of cross-entropy. Small for noise-robustness: 0.1 on CIFAR-10. 6 on CIFAR-100,
            which is harder to fit.
        beta: Weight $\beta \ge 0$ of reverse cross-entropy: 1 on CIFAR-10, 0.1 on CIFAR-100.
        from_logits: Whether `y_pred` are logits. Probabilities are normalised and clipped as Keras does.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions.
        y_pred: Logits or probabilities `(batch, classes)`. A single column is the score of class 1.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If an argument is negative, or if the shapes of labels and predictions do not fit.

    Cost: that of cross-entropy with class ids; rows need the probabilities and one product more.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.SymmetricCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    ```

    Reference: Yisen Wang, Xingjun Ma, Zaiyi Chen, Yuan Luo, Jinfeng Yi and James Bailey, *Symmetric Cross
    Entropy for Robust Learning with Noisy Labels*, ICCV 2019, arXiv:1908.06112.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "symmetric_crossentropy",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=0)
        self.beta = check_number("beta", beta, minimum=0)
        self.from_logits = bool(from_logits)

    def values(self, labels, y_pred):
        labels = short_labels(labels)
        log_p = log_probabilities(y_pred, self.from_logits)
        rows = labels.rows
        if rows is None:
            log_pt, error = log_probability_and_error(log_p, labels.ids, rows)
            reverse = -math.log(_FLOOR) * error
        else:
            log_pt = mean_under(rows, log_p)
            reverse = -ops.sum(ops.exp(log_p) * ops.log(ops.clip(rows, _FLOOR, 1.0)), axis=-1)
        return self.beta * reverse - self.alpha * log_pt
