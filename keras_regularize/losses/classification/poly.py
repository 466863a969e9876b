"""Polynomial corrections of cross-entropy and focal loss."""

from collections.abc import Collection, Sequence

from keras import ops

from keras_regularize.labels import short_labels
from keras_regularize.losses._focal import focusing, log_probability_and_error
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class PolyLoss(ClassLoss):
    r"""Cross-entropy or focal loss whose leading polynomial coefficients are tuned to the task.

    With $P_t = \sum_k t_k p_k$ the probability that the model gives to the target $t$,
    cross-entropy is the series $-\log P_t = \sum_{j \ge 1} \frac1j (1 - P_t)^j$. PolyLoss shifts
    its first $N$ coefficients:

    $$\ell(t, p) = (1 - P_t)^\gamma \Big( -\sum_k t_k \log p_k
      + \sum_{j=1}^{N} \epsilon_j\, (1 - P_t)^j \Big).$$

    $\gamma = 0$ is the cross-entropy form; one $\epsilon$ is the paper's Poly-1, which is nearly
    always enough, a list Poly-N. `epsilon=0` is plain cross-entropy, or focal loss for $\gamma >
    0$, and `epsilon=[-1, -1/2, …, -1/N]` removes the first $N$ terms of the series. The gradient of
    Poly-1 at the label's logit is $-(1 - P_t)(1 + \epsilon P_t)$: a positive $\epsilon$ keeps
    confident samples in play longer, a negative one (not below -1) lets go of them earlier.

    Args:
        epsilon: Shift of the first coefficient, $\epsilon_1$, or a list $[\epsilon_1, …,
            \epsilon_N]$. The paper tunes it per task, for instance 2 for EfficientNetV2 on ImageNet
            and -1 for the heads of Mask R-CNN.
        gamma: Focusing exponent $\gamma$, a non-negative float; 0 for cross-entropy, 2 is usual for
            focal loss.
        label_smoothing: Share $s$ of the target that is spread evenly over the classes,
            $t_k (1 - s) + s / K$. Float in `[0, 1]`.
        from_logits: Whether `y_pred` are logits. Probabilities are normalised and clipped as Keras
            does.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`.
            Further axes between batch and classes are positions, for instance `(batch, time)` ids.
        y_pred: Logits or probabilities `(batch, classes)`. A single column is the score of class 1. Label
            smoothing gives a forbidden class, a logit of -inf, a share, and so an infinite loss.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or per position `(batch, time)`,
        else a scalar.

    Raises:
        ValueError: If `epsilon` is an empty list, `gamma` negative or `label_smoothing` outside
            `[0, 1]`, or if the shapes of labels and predictions do not fit.

    Cost: that of cross-entropy with class ids. Rows may be soft, which needs the probabilities as
    well: one exponential pass and two products more.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.PolyLoss(epsilon=2.0, from_logits=True))
    model.fit(x, y, verbose=0)
    ```

    Reference: Zhaoqi Leng and others, *PolyLoss: A Polynomial Expansion Perspective of Classification Loss
    Functions*, ICLR 2022, arXiv:2204.12511.
    """

    def __init__(
        self,
        epsilon: float | Sequence[float] = 1.0,
        gamma: float = 0.0,
        label_smoothing: float = 0.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "poly_loss",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        if isinstance(epsilon, Collection) and len(epsilon) == 0:
            raise ValueError(
                "`epsilon` must be a number or a list of at least one. Received: epsilon=[]"
            )
        self.epsilon = (
            [check_number("epsilon", e) for e in epsilon]
            if isinstance(epsilon, Collection)
            else check_number("epsilon", epsilon)
        )
        self.gamma = check_number("gamma", gamma, minimum=0)
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, minimum=0, maximum=1
        )
        self.from_logits = bool(from_logits)

    def values(self, labels, y_pred):
        labels = short_labels(labels)
        log_p = log_probabilities(y_pred, self.from_logits)
        log_pt, rest = log_probability_and_error(log_p, labels.ids, labels.rows)
        if self.label_smoothing:
            s, classes = self.label_smoothing, log_p.shape[-1]
            log_pt = (1.0 - s) * log_pt + (s / classes) * ops.sum(log_p, axis=-1)
            rest = (1.0 - s) * rest + s * (1.0 - 1.0 / classes)

        polynomial = 0.0
        for epsilon in reversed(self.epsilon if isinstance(self.epsilon, list) else [self.epsilon]):
            polynomial = rest * (epsilon + polynomial)
        value = polynomial - log_pt
        if self.gamma == 0:
            return value
        return focusing(rest, self.gamma) * value
