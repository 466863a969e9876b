"""Cross-entropy that turns to the hard samples, for every form of labels and in log space."""

from typing import Any

from keras import ops

from keras_regularize.labels import pick, short_labels
from keras_regularize.losses._focal import focusing
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.losses.segmentation.region_loss import check_weights, weighted
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class FocalCrossentropy(ClassLoss):
    r"""Focal loss of class ids, one-hot or soft labels, exact at any logits, with classes to ignore.

    With log-probabilities $\log p_k$ and targets $t_k$, each pixel, or any other sample, contributes

    $$-\sum_k w_k\, t_k\, (1 - p_k)^\gamma \log p_k.$$

    `gamma=0` is cross-entropy. `keras.losses.CategoricalFocalCrossentropy` has no class ids and clips
    probabilities, so that confident mistakes have no gradient; its `alpha` multiplies the whole loss.

    Args:
        gamma: Focusing exponent $\gamma \ge 0$.
        class_weights: Weights $w_k$ of the classes, or `None` for 1. For a single column two numbers, those of
            class 0 and of class 1.
        from_logits: Whether `y_pred` are logits. Probabilities are normalised and clipped as Keras does.
        **kwargs: `ignore_class`, `name`, `reduction` and `dtype` as in `losses.ClassLoss`.

    Call arguments:
        y_true: Class ids `(batch, …)` or `(batch, …, 1)`, or one-hot or soft rows `(batch, …, classes)`.
        y_pred: Logits or probabilities `(batch, …, classes)`; a single column is the score of class 1.

    Returns:
        With `reduction="none"` one value per pixel `(batch, …)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: that of cross-entropy and two passes; with ids, over vectors without the axis of classes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.FocalCrossentropy(from_logits=True, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Tsung-Yi Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv:1708.02002.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weights: Any = None,
        from_logits: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.gamma = check_number("gamma", gamma, minimum=0)
        self.class_weights = check_weights(class_weights)
        self.from_logits = bool(from_logits)

    def values(self, labels, y_pred):
        labels = short_labels(labels)
        log_p = log_probabilities(y_pred, self.from_logits)
        weights = weighted(ops.ones_like(log_p[:1]), self.class_weights)
        if labels.rows is not None:
            rows = labels.rows
            if rows.shape[-1] == 1:
                rows = ops.concatenate([1.0 - rows, rows], axis=-1)
            log_p = ops.where(ops.equal(rows, 0), 0.0, log_p)  # Which may be -inf.
            return -ops.sum(
                rows * weights * focusing(-ops.expm1(log_p), self.gamma) * log_p, axis=-1
            )
        log_pt = pick(log_p, labels.ids)
        values = -focusing(-ops.expm1(log_pt), self.gamma) * log_pt
        if self.class_weights is None:
            return values
        return values * ops.take(ops.convert_to_tensor(self.class_weights, log_p.dtype), labels.ids)
