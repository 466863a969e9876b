"""The losses whose predictions are sparse: Fenchel-Young losses of entmax and sparsemax."""

from functools import partial

from keras import ops

from keras_regularize.activations.sparse import entmax_probabilities
from keras_regularize.labels import at_label, mean_under, pick
from keras_regularize.losses._slopes import by_rows
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import xlogy
from keras_regularize.registration import export
from keras_regularize.scores import class_logits
from keras_regularize.validation import check_number


@export
class Entmax(ClassLoss):
    r"""The loss that belongs to entmax, as cross-entropy belongs to softmax.

    With the prediction $p = \operatorname{entmax}_\alpha(z)$ of logits $z$ and a target $t$,

    $$\ell(t, z) = \langle p - t, z \rangle + H_\alpha(p) - H_\alpha(t), \qquad
      H_\alpha(p) = \frac{1 - \sum_k p_k^\alpha}{\alpha (\alpha - 1)}, \qquad \nabla_z \ell = p - t.$$

    It is convex, not negative, does not change when a constant is added to all logits, and has a margin: it is 0,
    with gradient 0, once the label's logit leads by $1 / (\alpha - 1)$. So easy samples drop out, and
    predictions have exact zeros. `alpha=1` is cross-entropy less the entropy of the target.

    Args:
        alpha: Sparsity $\alpha \ge 1$; 2 is `kr.losses.Sparsemax`.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)` that sum to 1: one-hot, soft, or
            uniform over the labels of a multi-label sample. Further axes before the classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0. Predict
            with `kr.activations.entmax` on them.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If `alpha` is below 1, or if the shapes of labels and logits do not fit.

    Cost: one sort of the logits for `alpha` 1.5 and 2, else that of `kr.activations.entmax`; the backward pass
    is one subtraction. First derivatives are exact, higher ones are not.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.Entmax(alpha=1.5), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    probabilities = kr.activations.entmax(model.predict(x, verbose=0), alpha=1.5)
    ```

    Reference: Ben Peters, Vlad Niculae and André F. T. Martins, *Sparse Sequence-to-Sequence Models*, ACL 2019,
    arXiv:1905.05702. Mathieu Blondel, André F. T. Martins and Vlad Niculae, *Learning with Fenchel-Young
    Losses*, JMLR 2020, arXiv:1901.02324.
    """

    from_logits = True

    def __init__(
        self,
        alpha: float = 1.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "entmax",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=1)

    def values(self, labels, y_pred):
        return by_rows(partial(_entmax_loss, self.alpha), labels, class_logits(y_pred))


@export
class Sparsemax(ClassLoss):
    r"""The loss that belongs to sparsemax: a smooth multi-class hinge with sparse probabilities.

    With the projection $p = \operatorname{sparsemax}(z)$ of the logits $z$ on the simplex and a target $t$,

    $$\ell(t, z) = \tfrac12 \|t - z\|^2 - \tfrac12 \|p - z\|^2, \qquad \nabla_z \ell = p - t.$$

    It is convex, not negative, does not change when a constant is added to all logits, and is 0 exactly if the
    label's logit leads by 1. Two classes give the modified Huber loss. The same as `Entmax(alpha=2)`.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)` that sum to 1: one-hot, soft, or
            uniform over the labels of a multi-label sample. Further axes before the classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0. Predict
            with `kr.activations.sparsemax` on them.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If the shapes of labels and logits do not fit.

    Cost: one sort of the logits; the backward pass is one subtraction. First derivatives are exact, higher ones
    are not.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.Sparsemax(), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    probabilities = kr.activations.sparsemax(model.predict(x, verbose=0))
    ```

    Reference: André F. T. Martins and Ramón Astudillo, *From Softmax to Sparsemax: A Sparse Model of
    Attention and Multi-Label Classification*, ICML 2016, arXiv:1602.02068.
    """

    from_logits = True

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sparsemax",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)

    def values(self, labels, y_pred):
        return by_rows(partial(_entmax_loss, 2.0), labels, class_logits(y_pred))


def _entmax_loss(alpha, labels, logits):
    if 0 in logits.shape:  # The maximum of an empty batch raises on TensorFlow.
        return ops.sum(logits, axis=-1)
    if alpha == 1.0:
        log_p = ops.log_softmax(logits, axis=-1)
        if labels.rows is None:
            return -pick(log_p, labels.ids)
        return ops.sum(xlogy(labels.rows, labels.rows), axis=-1) - mean_under(labels.rows, log_p)
    p = entmax_probabilities(logits, alpha)
    # At the maximum p of the conjugate its own derivative does not count, so p is a constant.
    shifted = logits - ops.stop_gradient(ops.amax(logits, axis=-1, keepdims=True))
    inner = ops.sum(p * ops.where(p > 0, shifted, 0.0), axis=-1)
    value = inner - at_label(labels, shifted) + _entropy(p, alpha)
    return value if labels.rows is None else value - _entropy(labels.rows, alpha)


def _entropy(p, alpha):
    """Tsallis entropy; 0 for a certain prediction."""
    power = p * p if alpha == 2.0 else ops.power(p, alpha)
    return (1.0 - ops.sum(power, axis=-1)) / (alpha * (alpha - 1.0))
