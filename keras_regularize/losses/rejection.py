"""The loss of a rejector, which decides when a fixed predictor may speak."""

import math

import keras
from keras import ops

from keras_regularize.labels import align_binary
from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import minimum
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class Rejection(Loss):
    r"""Trains a score that accepts the answers of a fixed predictor where they are likely right.

    A wrong answer that is accepted ($r > 0$) costs 1, a rejected answer costs $c$. With $a = 1$ where the
    predictor was right and $a = -1$ where it was wrong, the convex surrogate

    $$\ell(a, r) = e^{\frac{\alpha}{2} (r - a)} + c\, e^{-\beta r}$$

    bounds that cost from above. For the default
    $\beta = \frac{\alpha}{2c} \big(c\, e^{\alpha/2} + (1 - c)\, e^{-\alpha/2}\big)$ its minimiser is calibrated:
    it accepts exactly where the predictor is wrong with a probability below $c$. A larger cost accepts more.

    The exponentials go on as straight lines where a step would leave float32 (float16 with `dtype="float16"`), so
    the loss stays convex and finite for any score.

    Args:
        cost: Cost $c$ of a rejection, in `(0, 1)`: the error rate up to which an answer is accepted.
        alpha: $\alpha > 0$. The paper uses 4, and 3.5 for images.
        beta: $\beta > 0$; `None` for the calibrated value.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: 1 where the fixed predictor was right, 0 where it was wrong, `(batch,)` or `(batch, 1)`.
        y_pred: Scores $r$ of the rejector, `(batch,)` or `(batch, 1)`, without activation.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or if the shapes of targets and scores do not fit.

    Cost: two exponentials per sample. Gradients grow exponentially where the score is far off ($\beta$ is 20 for
    the defaults): use `clipnorm`, a small learning rate or a smaller $\alpha$.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8))  # the predictor's inputs, features or probabilities
    right = np.random.randint(0, 2, size=64)  # whether its answers were right, on held-out data
    rejector = keras.Sequential([keras.layers.Dense(1)])
    metrics = [kr.metrics.Coverage(), kr.metrics.SelectiveAccuracy()]
    rejector.compile(keras.optimizers.Adam(clipnorm=1.0), kr.losses.Rejection(0.2), metrics=metrics)
    rejector.fit(x, right, verbose=0)
    ```

    Reference: Christopher Mohri, Daniel Andor, Eunsol Choi, Michael Collins, Anqi Mao and Yutao Zhong, *Learning
    to Reject with a Fixed Predictor: Application to Decontextualization*, ICLR 2024, arXiv:2301.09044.
    """

    def __init__(
        self,
        cost: float = 0.05,
        alpha: float = 4.0,
        beta: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "rejection",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.cost = check_number("cost", cost, above=0, below=1)
        self.alpha = check_number("alpha", alpha, above=0)
        self.beta = check_number("beta", beta, above=0, optional=True)
        half = self.alpha / 2.0
        calibrated = math.exp(half) + (1.0 / self.cost - 1.0) * math.exp(-half)
        self._beta = half * calibrated if self.beta is None else self.beta

    def call(self, y_true, y_pred):
        right, score = align_binary(y_true, y_pred)
        half = self.alpha / 2.0
        # The steepest slope that still fits, as an exponent.
        largest = 9.0 if keras.backend.standardize_dtype(y_pred.dtype) == "float16" else 60.0
        accepted = _exponential(half * (score + 1.0 - 2.0 * right), largest - math.log(half))
        rejected = _exponential(-self._beta * score, largest - math.log(self.cost * self._beta))
        return accepted + self.cost * rejected


def _exponential(x, limit):
    """`exp(x)`, above `limit` its tangent there."""
    below = minimum(x, limit)
    return ops.exp(below) * (1.0 + ops.relu(x - limit))
