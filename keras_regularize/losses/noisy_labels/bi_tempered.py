"""Bi-tempered logistic loss: bounded for outliers, with heavy tails for labels that are wrong."""

import math

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import label_rows, mean_under, number_of_classes, pick
from keras_regularize.losses._slopes import by_rows, by_slopes
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import GUARD, xlogy
from keras_regularize.registration import export
from keras_regularize.scores import class_logits, shifted
from keras_regularize.validation import check_integer, check_number


@export
class BiTempered(ClassLoss):
    r"""Logistic loss with two temperatures: one bounds the loss, the other makes the tail of the softmax heavy.

    With the tempered logarithm and exponential

    $$\log_t x = \frac{x^{1 - t} - 1}{1 - t}, \qquad \exp_t x = \big[1 + (1 - t)\, x\big]_+^{1 / (1 - t)}$$

    and probabilities $p_k = \exp_{t_2}(z_k - \lambda)$, where $\lambda$ is such that they sum to 1, each sample
    contributes the Bregman divergence

    $$\ell(y, z) = \sum_k y_k \big(\log_{t_1} y_k - \log_{t_1} p_k\big)
      - \frac{1}{2 - t_1} \sum_k \big(y_k^{2 - t_1} - p_k^{2 - t_1}\big).$$

    $t_1 < 1$ bounds it, by $1 / (1 - t_1)$ for a hard label and more classes: a far outlier has no pull without
    limit. $t_2 > 1$ lets the probabilities fall as a power of the distance instead of exponentially: a wrong label
    near the boundary does not move it as much. $t_1 = t_2 = 1$ is softmax cross-entropy, less the entropy
    of a soft label; $t_2 < 1$ gives probabilities that are exactly 0.

    Args:
        t1: Temperature $t_1$ of the divergence, in `[0, 1]`. The paper uses 0.2 to 0.9.
        t2: Temperature $t_2$ of the softmax, above 0 and finite. The paper uses 1.05 to 4; 1.2 is a good start.
        label_smoothing: Share $s$ of the label that is spread evenly over the *other* classes: the label keeps
            $1 - s$, each other class gets $s / (K - 1)$, as in the authors' code. In `[0, 1]`.
        iterations: Fixed-point iterations for $t_2 > 1$, or for $t_2 < 1$ a quarter of the halvings of the
            interval, in the search for $\lambda$, which Newton's method ends. 5 is the authors' default.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a label: as in
            `keras.losses.SparseCategoricalCrossentropy` their value is 0 and means leave them out. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)` that sum to 1.
            Further axes between batch and classes are positions.
        y_pred: Logits `(batch, classes)`. A single column is the logit of class 1 against 0 for class 0. The order
            of the logits is that of the probabilities, so predict by `argmax`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)` or position, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or if the shapes of labels and logits do not fit.

    Cost: for $t_2 > 1$ about `iterations + 5` exponentials of the logits, most of them without gradient; for
    $t_2 < 1$ about `4 * iterations + 5`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.BiTempered(t1=0.8, t2=1.2), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    ```

    Reference: Ehsan Amid, Manfred K. Warmuth, Rohan Anil and Tomer Koren, *Robust Bi-Tempered Logistic Loss Based
    on Bregman Divergences*, NeurIPS 2019, arXiv:1906.03361. Differs from the authors' code in the search for
    $\lambda$ alone: theirs stops after the iterations, for $t_2 < 1$ (in JAX only) after as many halvings, when
    the probabilities miss the sum of 1 by up to a few percent; here Newton's method goes on to it. The
    gradient is the one that they write out, here that of the last steps.
    """

    from_logits = True

    def __init__(
        self,
        t1: float = 0.8,
        t2: float = 1.2,
        label_smoothing: float = 0.0,
        iterations: int = 5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "bi_tempered",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(ignore_class, name=name, reduction=reduction, dtype=dtype)
        self.t1 = check_number("t1", t1, minimum=0, maximum=1)
        self.t2 = check_number("t2", t2, above=0, below=math.inf)
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, minimum=0, maximum=1
        )
        self.iterations = check_integer("iterations", iterations, minimum=1)

    def values(self, labels, y_pred):
        logits = class_logits(y_pred)
        if self.t2 < 1:  # Where probabilities are 0 the slopes below have no value.
            return by_rows(self._formula, labels, logits)
        return by_slopes(self._formula, self._slopes, labels, logits)

    def _formula(self, labels, logits):
        if 0 in logits.shape:
            return ops.sum(logits, axis=-1)
        return self._divergence(labels, _log_probabilities(logits, self.t2, self.iterations))

    def _slopes(self, labels, logits, room):
        log_p = _log_probabilities(logits, self.t2, self.iterations, recorded=False)
        between = ops.exp((self.t2 - self.t1) * log_p)
        room[...] = ops.exp(log_p)
        if labels.rows is None and self.label_smoothing == 0:
            backend.in_place.add_last(room, labels.ids, -1.0)
        else:
            room -= self._rows(labels, logits)
        room *= between
        escort = ops.exp(self.t2 * log_p)
        share = ops.sum(room, axis=-1, keepdims=True) / ops.sum(escort, axis=-1, keepdims=True)
        room -= share * escort
        return self._divergence(labels, log_p)

    def _divergence(self, labels, log_p):
        power = 2.0 - self.t1
        spread = ops.sum(ops.exp(power * log_p), axis=-1) if self.t1 < 1 else 1.0
        if labels.rows is None and self.label_smoothing == 0:
            return (spread - 1.0) / power - self._log(pick(log_p, labels.ids))
        rows = self._rows(labels, log_p)
        squares = ops.sum(ops.power(rows, power), axis=-1)
        if self.t1 == 1:
            own = ops.sum(xlogy(rows, rows), axis=-1)
        else:
            own = (squares - ops.sum(rows, axis=-1)) / (1.0 - self.t1)
        return own - mean_under(rows, self._log(log_p)) + (spread - squares) / power

    def _rows(self, labels, logits):
        rows, classes = label_rows(labels, logits), number_of_classes(logits)
        s = self.label_smoothing / (classes - 1)
        return (1.0 - classes * s) * rows + s

    def _log(self, log_p):
        """The tempered logarithm of probabilities."""
        return log_p if self.t1 == 1 else ops.expm1((1.0 - self.t1) * log_p) / (1.0 - self.t1)


def _log_probabilities(logits, t, iterations, recorded=True):
    """Logarithms of the tempered softmax, with their first two derivatives if they are recorded."""
    if t == 1:
        return ops.log_softmax(logits, axis=-1)
    x, _ = shifted(logits)
    fixed = ops.stop_gradient(x)
    normalizer = (_fixed_point if t > 1 else _bisection)(fixed, t, iterations)
    for _ in range(2):
        normalizer = ops.relu(
            _newton(fixed, normalizer, t)
        )  # At 0 the largest alone has a probability of 1.
    # At the solution one step has its derivative, and two have its second.
    for _ in range(2 if recorded else 0):
        normalizer = _newton(x, normalizer, t)
    return _log_exp(x - normalizer, t)


def _log_exp(u, t):
    """`log exp_t(u)`; where that is -inf for `t < 1`, the logarithm of a number that is as good as 0."""
    if t > 1:
        return -ops.log1p((1.0 - t) * u) / (t - 1.0)
    base = 1.0 + (1.0 - t) * u
    return ops.log(ops.where(base <= GUARD, GUARD, base)) / (1.0 - t)


def _newton(x, normalizer, t):
    """A step towards `Z = Σ exp_t(x - normalizer) = 1`.

    Of Newton's method for `log_t Z`, which is linear where all logits are equal.
    """
    log_p = _log_exp(x - normalizer, t)
    total = ops.sum(ops.exp(log_p), axis=-1, keepdims=True)
    slope = ops.sum(ops.exp(t * log_p), axis=-1, keepdims=True) / ops.power(total, t)
    return normalizer + (ops.power(total, 1.0 - t) - 1.0) / (1.0 - t) / slope


def _fixed_point(x, t, iterations):
    scaled = x
    for _ in range(iterations):
        total = ops.sum(ops.exp(_log_exp(scaled, t)), axis=-1, keepdims=True)
        scaled = x * ops.power(total, 1.0 - t)
    total = ops.sum(ops.exp(_log_exp(scaled, t)), axis=-1, keepdims=True)
    return (ops.power(total, t - 1.0) - 1.0) / (t - 1.0)


def _bisection(x, t, iterations):
    members = ops.sum(ops.cast(x > -1.0 / (1.0 - t), x.dtype), axis=-1, keepdims=True)
    low, high = ops.zeros_like(members), (1.0 - ops.power(members, t - 1.0)) / (1.0 - t)
    for _ in range(4 * iterations):
        middle = 0.5 * (low + high)
        total = ops.sum(ops.exp(_log_exp(x - middle, t)), axis=-1, keepdims=True)
        low, high = ops.where(total < 1.0, low, middle), ops.where(total < 1.0, middle, high)
    return low  # Newton's method goes up from there without overshooting.
