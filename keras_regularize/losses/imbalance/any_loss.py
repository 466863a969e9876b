"""Metrics of the confusion matrix as losses."""

from collections.abc import Callable

from keras import ops

from keras_regularize.labels import align_binary
from keras_regularize.losses.loss import Loss
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number

_TINY = 1e-7
_METRICS = ("accuracy", "f1", "fbeta", "gmean", "balanced_accuracy")


@export
class AnyLoss(Loss):
    r"""One minus a metric of the confusion matrix, such as the F1 score, made differentiable.

    With probabilities $p_i$ of class 1, labels $y_i \in \{0, 1\}$ and a steep sigmoid in the place of the
    threshold, $h_i = 1 / (1 + e^{-L (p_i - 1/2)})$,

    $$TP = \sum_i y_i h_i,\quad FP = \sum_i (1 - y_i) h_i,\quad FN = \sum_i y_i (1 - h_i),\quad
      TN = \sum_i (1 - y_i)(1 - h_i),$$

    and the loss of the batch is 1 minus accuracy,
    $F_\beta = \frac{(1 + \beta^2) TP}{(1 + \beta^2) TP + \beta^2 FN + FP}$, the geometric mean
    $\sqrt{TPR \cdot TNR}$, the balanced accuracy $(TPR + TNR)/2$, or any other. For $L \to \infty$ it is 1 minus
    the metric itself. A class that is absent from the batch has rate 0, and denominators have 1e-7 added.

    It is batch-coupled: each sample's value is the loss of the whole batch, `(batch,)`, whose mean is the loss.
    Sample weights and masks scale that value and do not enter the counts.

    Samples with $|p - 1/2| \gg 1 / L$ get almost no gradient, also when they are confidently wrong. With
    $L = 73$ keep the logits small (batch normalization before the sigmoid, as in the paper), or take $L$ from 10
    to 30. Use large batches, in which both classes occur.

    Args:
        metric: `"accuracy"`, `"f1"`, `"fbeta"`, `"gmean"`, `"balanced_accuracy"`, or a function `(tp, fp, fn, tn)
            -> score` of scalar tensors. To save a model with a function, register it with
            `keras.saving.register_keras_serializable`.
        amplification: Steepness $L > 0$.
        beta: $\beta > 0$ of `"fbeta"`: how much more recall counts than precision. Unused otherwise.
        from_logits: Whether `y_pred` are logits, which go through a sigmoid.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Labels 0 or 1, `(batch,)` or `(batch, 1)`.
        y_pred: Probabilities of class 1, or logits, `(batch,)` or `(batch, 1)`.

    Returns:
        With `reduction="none"` the loss of the batch, once per sample; else a scalar.

    Raises:
        ValueError: If an argument is not one of those above, or if the shapes of labels and predictions do not
            fit.

    Cost: a few passes over the predictions.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.repeat([0, 1], [56, 8])
    model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", loss=kr.losses.AnyLoss("gmean", amplification=20.0))
    model.fit(x, y, batch_size=64, verbose=0)
    ```

    Reference: Doheon Han, Nuno Moniz and Nitesh V. Chawla, *AnyLoss: Transforming Classification Metrics into Loss
    Functions*, KDD 2024, arXiv:2405.14745. Their notebook puts the size of the whole training set for the
    number of samples of a batch; here it is the batch's.
    """

    def __init__(
        self,
        metric: str | Callable = "f1",
        amplification: float = 73.0,
        beta: float = 1.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "any_loss",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not callable(metric):
            check_choice("metric", metric, _METRICS)
        self.metric = metric
        self.amplification = check_number("amplification", amplification, above=0)
        self.beta = check_number("beta", beta, above=0)
        self.from_logits = bool(from_logits)

    def call(self, y_true, y_pred):
        labels, p = align_binary(y_true, y_pred)
        p = ops.sigmoid(p) if self.from_logits else p
        steep = self.amplification * (p - 0.5)
        # Not `1 - h`, which is 0 from a margin of 17 on.
        h, rest = ops.sigmoid(steep), ops.sigmoid(-steep)
        tp, fn = ops.sum(labels * h), ops.sum(labels * rest)
        fp, tn = ops.sum((1.0 - labels) * h), ops.sum((1.0 - labels) * rest)
        return (1.0 - self._score(tp, fp, fn, tn)) * ops.ones_like(p)

    def _score(self, tp, fp, fn, tn):
        if callable(self.metric):
            return self.metric(tp, fp, fn, tn)
        if self.metric == "accuracy":
            return (tp + tn) / (tp + fp + fn + tn + _TINY)
        if self.metric in ("f1", "fbeta"):
            square = 1.0 if self.metric == "f1" else self.beta**2
            return (1.0 + square) * tp / ((1.0 + square) * tp + square * fn + fp + _TINY)
        sensitivity, specificity = tp / (tp + fn + _TINY), tn / (tn + fp + _TINY)
        if self.metric == "gmean":
            return ops.sqrt(sensitivity * specificity + _TINY**2)  # A finite slope at 0.
        return (sensitivity + specificity) / 2.0
