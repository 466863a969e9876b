"""Comp-sum losses: a family around cross-entropy."""

from keras_regularize.labels import mean_under, pick, short_labels
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import log_probabilities, safe_expm1
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class CompSum(ClassLoss):
    r"""Comp-sum loss: from the sum-exponential over cross-entropy to the mean absolute error by one number.

    With logits $z$, softmax $p$ and label $y$, each sample contributes

    $$\Phi_\tau\Big(\sum_{j \ne y} e^{z_j - z_y}\Big), \qquad
      \Phi_\tau(u) = \frac{(1 + u)^{1 - \tau} - 1}{1 - \tau}
                   = \frac{p_y^{\tau - 1} - 1}{1 - \tau},$$

    which at $\tau = 1$ is $\log(1 + u) = -\log p_y$. The gradient at $z_j$, $j \ne y$, is
    $p_y^{\tau - 1} p_j$: $\tau$ above 1 plays down samples that the model gives little probability, as wrong
    labels are, $\tau$ below 1 plays them up. Under a soft label the loss is the mean over its distribution.

    | $\tau$ | loss |
    |---|---|
    | 0 | sum-exponential, $1/p_y - 1$ |
    | 1 | cross-entropy |
    | $1 + q$, $0 < q < 1$ | generalized cross-entropy: `keras.losses.CategoricalGeneralizedCrossEntropy(q)` |
    | 2 | $1 - p_y$, half the mean absolute error |

    For $\tau < 1$ values grow as $e^{(1 - \tau)|\log p_y|}$; where that exponent exceeds 60 the loss goes on as
    the tangent, so value and gradient stay finite in float32. In float16 such gradients overflow: use $\tau \ge 1$
    there.

    Args:
        tau: Member of the family, $\tau$ in the formula. Float, at least 0; 1 is a good start, and 1.5 to 2 for
            noisy labels.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`.
            Further axes between batch and classes are positions, for instance `(batch, time)` ids.
        y_pred: Logits `(batch, classes)`, not probabilities. A single column is the logit of class 1.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or per position `(batch, time)`, else a scalar.

    Raises:
        ValueError: If `tau` is negative, or if the shapes of labels and logits do not fit.

    Cost: that of cross-entropy and one elementwise pass over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.CompSum(tau=1.5), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    ```

    Reference: Mao, Mohri and Zhong, *Cross-Entropy Loss Functions: Theoretical Analysis and Applications*, ICML
    2023, arXiv:2304.07288.
    """

    from_logits = True

    def __init__(
        self,
        tau: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "comp_sum",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.tau = check_number("tau", tau, minimum=0)

    def values(self, labels, y_pred):
        labels = short_labels(labels)
        log_p = log_probabilities(y_pred, True)
        if labels.rows is None:
            return comp_sum_of(pick(log_p, labels.ids), self.tau)
        return mean_under(labels.rows, comp_sum_of(log_p, self.tau))


def comp_sum_of(log_p, tau):
    """The comp-sum loss of labels with these log-probabilities."""
    if tau == 1:
        return -log_p
    # `expm1` keeps every digit near `tau = 1` too.
    return safe_expm1((tau - 1.0) * log_p) / (1.0 - tau)
