"""Likelihood and proper score of a predicted mixture of Gaussians."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.losses.probabilistic.distributions import (
    log_density,
    mean_distance,
    read_mixture,
)
from keras_regularize.registration import export


@export
class GaussianMixtureNegativeLogLikelihood(Loss):
    r"""Negative log-likelihood of a mixture of Gaussians that the network predicts: a mixture density network.

    $$-\ln \sum_k w_k\, \mathcal N(y;\, \mu_k, \sigma_k^2), \qquad w = \operatorname{softmax}(a), \quad
      \sigma_k = \operatorname{softplus}(r_k) + 10^{-6},$$

    summed in the logarithm. A mixture can be skewed or have several peaks, where one Gaussian can only be wide.
    `layers.GaussianMixture` is the head, `losses.gaussian_mixture_cdf` the distribution function.

    Args:
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Logits $a$, means $\mu$ and raw scales $r$ of all components, one after the other,
            `(batch, 3 * components)`. A Gaussian `(batch, 2)` is a mixture of one.

    Returns:
        With `reduction="none"` one value per target `(batch,)`, else a scalar. Axes between batch and parameters,
        such as time, are those of further targets.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few operations per component.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(16, "relu"), kr.layers.GaussianMixture(3)])
    model.compile("adam", loss=kr.losses.GaussianMixtureNegativeLogLikelihood())
    model.fit(x, y, verbose=0)
    ```

    Reference: Christopher M. Bishop, *Mixture Density Networks*, 1994.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gaussian_mixture_negative_log_likelihood",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return -log_density(y_true, y_pred)


@export
class GaussianMixtureCRPS(Loss):
    r"""Continuous ranked probability score of a predicted mixture of Gaussians.

    With the mean distance $A(\mu, \sigma)$ from 0 of a Gaussian of that mean and standard deviation,

    $$\sum_k w_k\, A(y - \mu_k, \sigma_k) - \tfrac12 \sum_{k, l} w_k w_l\, A\Big(\mu_k - \mu_l,
      \sqrt{\sigma_k^2 + \sigma_l^2}\Big),$$

    the mean distance of the target from a draw, less half of that between two draws. In the unit of the targets,
    with a gradient in each mean that is never above 2: gentler than the likelihood, as `GaussianCRPS` is.

    Args:
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch,)` or `(batch, 1)`.
        y_pred: Logits $a$, means $\mu$ and raw scales $r$ of all components, one after the other,
            `(batch, 3 * components)`, as `layers.GaussianMixture` gives them out. A Gaussian `(batch, 2)` is a
            mixture of one.

    Returns:
        With `reduction="none"` one value per target `(batch,)`, else a scalar. Axes between batch and parameters,
        such as time, are those of further targets.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a few operations per pair of components.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=64)
    model = keras.Sequential([keras.layers.Dense(16, "relu"), kr.layers.GaussianMixture(3)])
    model.compile("adam", loss=kr.losses.GaussianMixtureCRPS())
    model.fit(x, y, verbose=0)
    ```

    Reference: E. P. Grimit, Tilmann Gneiting, Veronica J. Berrocal and Nicholas A. Johnson, *The continuous
    ranked probability score for circular variables and its application to mesoscale forecast ensemble
    verification*, Quarterly Journal of the Royal Meteorological Society 2006.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gaussian_mixture_crps",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        log_weights, errors, means, scales = read_mixture(y_true, y_pred)
        weights = ops.exp(log_weights)
        gaps = means[..., :, None] - means[..., None, :]
        variances = scales * scales
        spreads = ops.sqrt(variances[..., :, None] + variances[..., None, :])
        pairs = weights[..., :, None] * weights[..., None, :] * mean_distance(gaps, spreads)
        from_target = ops.sum(weights * mean_distance(errors, scales), axis=-1)
        return from_target - 0.5 * ops.sum(pairs, axis=(-2, -1))
