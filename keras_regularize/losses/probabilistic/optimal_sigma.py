"""Gaussian likelihood whose one variance is the best for each batch."""

from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.losses.probabilistic.vae import (
    gaussian_nll,
    soft_clipped_log_sigma,
    sum_per_sample,
)
from keras_regularize.masks import keras_mask
from keras_regularize.numerics import maximum
from keras_regularize.registration import export
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_number


@export
class OptimalSigmaGaussian(BatchCoupledLoss):
    r"""Negative log-likelihood of normal errors with the variance that is best for the batch: no weight to tune.

    $$\sum_D \Big( \frac{(y - \hat y)^2}{2 \sigma^2} + \log \sigma + \tfrac12 \log 2 \pi \Big), \qquad
      \sigma^2 = \text{mean of } (y - \hat y)^2 \text{ over the batch and all } D \text{ outputs,}$$

    the sum over all outputs of a sample. As the reconstruction term of a variational autoencoder it makes the
    weight of the divergence superfluous: see `balance="optimal"` of `kr.models.VAE`. The logarithm is softly kept
    above a least value, $\log \sigma \leftarrow c + \operatorname{softplus}(\log \sigma - c)$.

    Its mean over the batch is $\frac D2 (1 + \log 2 \pi \sigma^2)$, but for the clipping, so that the gradient is
    that of the errors' mean square with the weight $1 / (2 \sigma^2)$.

    Args:
        min_log_sigma: $c$, the least $\log \sigma$, or `None`: then $\sigma^2$ is at least 1e-10.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …)`.
        y_pred: Predictions of the same shape.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, a sum over its outputs; else a scalar. Samples of
        weight 0 do not count in the variance.

    Raises:
        ValueError: If an argument is no number, the shapes do not fit, or positions are masked.

    Cost: that of squared error.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=(64, 3))
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=kr.losses.OptimalSigmaGaussian())
    model.fit(x, y, verbose=0)
    ```

    Reference: Oleh Rybkin, Kostas Daniilidis and Sergey Levine, *Simple and Effective VAE Training with Calibrated
    Decoders*, ICML 2021, arXiv:2006.13202.
    """

    def __init__(
        self,
        min_log_sigma: float | None = -6.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "optimal_sigma_gaussian",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.min_log_sigma = check_number("min_log_sigma", min_log_sigma, optional=True)

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = keras_mask(y_pred)
        if mask is not None and len(mask.shape) > 1:
            raise ValueError(
                "`OptimalSigmaGaussian` sums over all outputs of a sample and takes no mask of positions. "
                f"Received: a mask of shape {tuple(mask.shape)}"
            )
        return super().__call__(y_true, y_pred, sample_weight)

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        error = targets - predicted
        squares, there = error * error, present(counted, error)
        mean_square = ops.sum(squares * there) / maximum(ops.sum(there), 1.0)
        log_sigma = soft_clipped_log_sigma(mean_square, self.min_log_sigma)
        sizes = sum_per_sample(ops.ones_like(error))
        return gaussian_nll(sum_per_sample(squares), sizes, ops.exp(2.0 * log_sigma)), None
