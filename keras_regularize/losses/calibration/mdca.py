"""Multi-class difference in confidence and accuracy."""

from keras import ops

from keras_regularize.labels import label_rows
from keras_regularize.losses._focal import focusing, log_probability_and_error
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class MDCA(ClassLoss):
    r"""Cross-entropy or focal loss that calibrates the mean confidence of every class, batch by batch.

    With $n$ samples, probabilities $p_{ik} = \operatorname{softmax}(z_i)_k$ and targets $t_{ik}$, the loss of
    a batch is

    $$\frac1n \sum_i (1 - P_i)^\gamma \Big( -\sum_k t_{ik} \log p_{ik} \Big)
      + \beta\, \frac1K \sum_k \Big| \frac1n \sum_i (p_{ik} - t_{ik}) \Big|, \qquad P_i = \sum_k t_{ik} p_{ik}.$$

    The second term compares the mean confidence in each class with its frequency: calibration of all
    classes and not of the predicted one alone. It is batch-coupled. A sample's value holds its own share
    $\frac{\beta}{K} \sum_k s_k\,(p_{ik} - t_{ik})$, with $s_k$ the sign of class $k$'s gap in the whole batch, so
    the mean of the values is the formula; single values may be negative. Sample weights act on the shares, and
    every position of the batch counts for the signs, masked ones too.

    Args:
        factor: Weight $\beta \ge 0$ of the second term; the paper uses 1 to 50.
        gamma: Focusing exponent $\gamma \ge 0$; 0 for cross-entropy.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`. Further axes
            between batch and classes are positions; they count as further samples.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If an argument is negative, or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy and a few elementwise passes over the logits. The batch mean is a noisy
    estimate when there are many more classes than samples: use large batches.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.MDCA(factor=5.0, gamma=2.0))
    model.fit(x, y, verbose=0)
    ```

    Reference: Ramya Hebbalaguppe, Jatin Prakash, Neelabh Madan and Chetan Arora, *A Stitch in Time Saves Nine:
    A Train-Time Regularizing Loss for Improved Neural Network Calibration*, CVPR 2022, arXiv:2203.13834.
    """

    from_logits = True

    def __init__(
        self,
        factor: float = 1.0,
        gamma: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mdca",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.factor = check_number("factor", factor, minimum=0)
        self.gamma = check_number("gamma", gamma, minimum=0)

    def values(self, labels, y_pred):
        log_p = log_probabilities(y_pred, from_logits=True)
        log_pt, error = log_probability_and_error(log_p, labels.ids, labels.rows)
        focal = -log_pt if self.gamma == 0 else -focusing(error, self.gamma) * log_pt
        classes = log_p.shape[-1]
        gaps = ops.exp(log_p) - label_rows(labels, log_p)
        if labels.counted is not None:
            gaps = ops.where(ops.expand_dims(labels.counted, -1), gaps, 0.0)
        positions = tuple(range(len(gaps.shape) - 1))
        signs = ops.sign(ops.stop_gradient(ops.sum(gaps, axis=positions)))
        return focal + (self.factor / classes) * ops.sum(signs * gaps, axis=-1)
