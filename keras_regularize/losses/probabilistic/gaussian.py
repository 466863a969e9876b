"""Likelihood and proper score of a predicted Gaussian."""

import math

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.losses.probabilistic.distributions import (
    mean_distance,
    negative_log_normal,
    read_gaussian,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class GaussianNegativeLogLikelihood(Loss):
    r"""Negative log-likelihood of a Gaussian whose mean and standard deviation the network predicts.

    $$\sigma^{2\beta} \Big[ \tfrac12 \Big(\frac{y - \mu}{\sigma}\Big)^2 + \ln \sigma + \tfrac12 \ln 2\pi \Big],
      \qquad \sigma = \operatorname{softplus}(r) + 10^{-6},$$

    where the factor in front has no gradient. With $\beta = 0$ it is the likelihood, whose gradient in the mean is
    divided by the variance: what is predicted badly at first gets a large $\sigma$ and is hardly learnt any more.
    $\beta = 0.5$, which the authors recommend, weakens that; with $\beta = 1$ the mean has the gradient of half
    the squared error.

    Scale the targets to a standard deviation of about 1. A network that is trained on until it fits its targets
    drives $\sigma$ to 0: see `ProbabilisticCalibration` and `analysis.QuantileRecalibration`.

    Args:
        beta: $\beta$ in [0, 1].
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Mean $\mu$ and raw scale $r$, any numbers, `(batch, 2)`: a `Dense(2)` without activation.

    Returns:
        With `reduction="none"` one value per target `(batch,)`, else a scalar. Axes between batch and parameters,
        such as time, are those of further targets.

    Raises:
        ValueError: If `beta` is out of range, or the shapes do not fit.

    Cost: a few elementwise operations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("adam", loss=kr.losses.GaussianNegativeLogLikelihood(beta=0.5))
    model.fit(x, y, verbose=0)
    mean, raw = model.predict(x, verbose=0).T
    deviation = np.logaddexp(raw, 0.0)
    ```

    Reference: Maximilian Seitzer, Arash Tavakoli, Dimitrije Antic and Georg Martius, *On the Pitfalls of
    Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks*, ICLR 2022, arXiv:2203.09168.
    """

    def __init__(
        self,
        beta: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gaussian_negative_log_likelihood",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.beta = check_number("beta", beta, minimum=0, maximum=1)

    def call(self, y_true, y_pred):
        error, scale = read_gaussian(y_true, y_pred)
        values = negative_log_normal(error, scale)
        if self.beta > 0:
            values = values * ops.stop_gradient(ops.power(scale, 2.0 * self.beta))
        return values


@export
class GaussianCRPS(Loss):
    r"""Continuous ranked probability score of a predicted Gaussian: a likelihood's gentler sibling.

    The score of a distribution function $F$ at the target, $\int (F(t) - [t \ge y])^2\, dt$, is for a Gaussian

    $$\sigma \Big[ z\, \big(2\Phi(z) - 1\big) + 2 \varphi(z) - \tfrac{1}{\sqrt\pi} \Big], \qquad
      z = \frac{y - \mu}{\sigma}, \quad \sigma = \operatorname{softplus}(r) + 10^{-6},$$

    with the standard normal distribution function $\Phi$ and density $\varphi$. It is proper as the
    likelihood is, in the unit of the targets, and its gradient in the mean is never above 1: an outlier, or a
    $\sigma$ that came out too small, cannot dominate the batch. $\sigma \to 0$ gives the absolute error.

    Args:
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Mean $\mu$ and raw scale $r$, any numbers, `(batch, 2)`: a `Dense(2)` without activation.

    Returns:
        With `reduction="none"` one value per target `(batch,)`, else a scalar. Axes between batch and parameters,
        such as time, are those of further targets.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few elementwise operations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("adam", loss=kr.losses.GaussianCRPS())
    model.fit(x, y, verbose=0)
    ```

    Reference: Tilmann Gneiting, Adrian E. Raftery, Anton H. Westveld and Tom Goldman, *Calibrated Probabilistic
    Forecasting Using Ensemble Model Output Statistics and Minimum CRPS Estimation*, Monthly Weather Review 2005.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gaussian_crps",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        error, scale = read_gaussian(y_true, y_pred)
        return mean_distance(error, scale) - scale * (1.0 / math.sqrt(math.pi))
