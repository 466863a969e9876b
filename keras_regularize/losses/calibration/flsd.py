"""Focal loss whose exponent depends on the sample."""

from keras import ops

from keras_regularize.labels import short_labels
from keras_regularize.losses._focal import focusing, log_probability_and_error
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class FLSD(ClassLoss):
    r"""Focal loss with a sample-dependent exponent, for calibrated confidences (FLSD-53).

    With $P_t = \sum_k t_k p_k$ the probability that the model gives to the target $t$,

    $$\ell(t, z) = -(1 - P_t)^{\gamma(P_t)} \sum_k t_k \log \operatorname{softmax}(z)_k, \qquad
      \gamma(P_t) = \begin{cases} \gamma_{\text{low}} & P_t < \theta \\ \gamma & \text{else.} \end{cases}$$

    Focal loss keeps the predicted distribution from collapsing on the label. The larger exponent where the
    label is still improbable keeps its pull there as strong as that of cross-entropy. The choice of
    the exponent carries no gradient; the value jumps at $P_t = \theta$.

    Args:
        gamma: Exponent $\gamma \ge 0$ of samples with $P_t \ge \theta$.
        low_confidence_gamma: Exponent $\gamma_{\text{low}} \ge 0$ of the others.
        threshold: $\theta$ in `[0, 1]`.
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
        ValueError: If an argument is out of its range, or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy with class ids.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.FLSD())
    model.fit(x, y, verbose=0)
    ```

    Reference: Jishnu Mukhoti, Viveka Kulharia, Amartya Sanyal, Stuart Golodetz, Philip H. S. Torr and Puneet
    K. Dokania, *Calibrating Deep Neural Networks using Focal Loss*, NeurIPS 2020, arXiv:2002.09437.
    """

    from_logits = True

    def __init__(
        self,
        gamma: float = 3.0,
        low_confidence_gamma: float = 5.0,
        threshold: float = 0.2,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "flsd",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.gamma = check_number("gamma", gamma, minimum=0)
        self.low_confidence_gamma = check_number(
            "low_confidence_gamma", low_confidence_gamma, minimum=0
        )
        self.threshold = check_number("threshold", threshold, minimum=0, maximum=1)

    def values(self, labels, y_pred):
        labels = short_labels(labels)
        log_p = log_probabilities(y_pred, from_logits=True)
        log_pt, error = log_probability_and_error(log_p, labels.ids, labels.rows)
        weight = ops.where(
            error > 1.0 - self.threshold,
            focusing(error, self.low_confidence_gamma),
            focusing(error, self.gamma),
        )
        return -weight * log_pt
