"""Training by the likelihood of what recalibration will make of the predictions."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff.compiled_losses import (
    CONTAINERS,
    joint_mask,
    position_weights,
)
from keras_regularize.autodiff.functional import resolve_weights, without_samples
from keras_regularize.losses.probabilistic.distributions import gaussian_mixture_cdf, log_density
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.targets import split_parameters
from keras_regularize.validation import check_number


@export
class RecalibratedTraining(RegularizedModel):
    r"""Trains a network for regression through the recalibration that its predictions will get.

    Recalibration after training repairs probabilities that the network was never told would be repaired. Here each
    step does it: with the predicted density $f$ and distribution function $F$, the second half of the batch gives
    the probabilities $u_j = F(y_j \mid x_j)$ and by them a smooth recalibration map $\varphi$ of [0, 1], and the
    first half has the likelihood of the recalibrated predictions,

    $$-\ln f(y \mid x) - \ln \varphi\big(F(y \mid x)\big), \qquad
      \varphi(p) \propto \sum_j \sum_{c \in \{u_j,\, -u_j,\, 2 - u_j\}} k\Big(\frac{p - c}{\tau}\Big),$$

    with the logistic density $k$, reflected at both ends and normalized on [0, 1]. The gradient flows through both
    halves. Where predictions are calibrated already $\varphi$ is about 1 and the objective the likelihood, as it
    is in a batch of one.

    The method replaces the compiled loss, which may be left out: it is what `evaluate` measures. Penalties of
    weights and activities stay. What is masked or of weight 0 counts in neither half. Batches must be shuffled, as
    `fit` does, and large: 256 samples and more. On several devices each halves its share of the batch.

    Tips: scale the targets to a mean of 0 and a standard deviation of 1. A sample whose probability is far from
    those of the other half costs up to $1 / \tau$: if that happens after the first steps still, take larger
    batches or a larger `temperature`.

    The predictions are meant to be recalibrated in the end, on data that was not trained on, by one call:
    `recalibration = kr.analysis.QuantileRecalibration("kde").fit(y_calibration, model.predict(x_calibration))`.

    Args:
        model: The model to train, or another wrapper; with a single output, mean and raw scale `(batch, 2)` or a
            mixture `(batch, 3 * components)` as in `losses.gaussian_mixture_cdf`.
        temperature: $\tau > 0$, the width of the kernel.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `temperature` is not positive, labels are missing, or the model has several outputs or one
            that is no distribution.

    Cost: one forward-backward pass, and an array of half the batch by one and a half of it.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(256, 8)), np.random.normal(size=256)
    model = kr.models.RecalibratedTraining(keras.Sequential([keras.layers.Dense(2)]))
    model.compile("adam", kr.losses.GaussianNegativeLogLikelihood())
    model.fit(x[:128], y[:128], batch_size=128, verbose=0)
    recalibration = kr.analysis.QuantileRecalibration("kde").fit(y[128:], model.predict(x[128:], verbose=0))
    low, high = recalibration.quantile(model.predict(x, verbose=0), [0.05, 0.95]).T
    ```

    Reference: Victor Dheur and Souhaib Ben Taieb, *Probabilistic Calibration by Design for Neural Network
    Regression*, AISTATS 2024, arXiv:2403.11964.
    """

    def __init__(self, model: keras.Model, temperature: float = 0.01, **kwargs: Any):
        super().__init__(model, **kwargs)
        self.temperature = check_number("temperature", temperature, above=0)

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError("`RecalibratedTraining` needs labels `y`. Received: y=None")

    def objective(self, batch, forward):
        loss, values = super().objective(without_samples(batch), forward)
        outputs = forward.outputs_at(batch.x)
        if isinstance(outputs, CONTAINERS):
            raise ValueError(
                "`RecalibratedTraining` needs a model of a single output. "
                f"Received: outputs in a {type(outputs).__name__}"
            )
        targets, outputs, weights = self._counted(batch, outputs)
        pit, likelihood = gaussian_mixture_cdf(targets, outputs), log_density(targets, outputs)
        half = (ops.shape(pit)[0] + 1) // 2
        change = self._log_map(pit[:half], pit[half:], weights[half:])
        own = mean(weights[:half] * (-likelihood[:half] - change)) * batch.loss_weight
        return loss + ops.cast(own, loss.dtype), values

    def _counted(self, batch, outputs):
        """Targets, predictions and weights `(batch, …)`; what has weight 0 may be anything before."""
        targets, predicted = split_parameters(batch.y, outputs)
        weights = resolve_weights(batch, outputs)
        weights = position_weights(weights, joint_mask(outputs, targets), targets)
        if weights is None:
            return targets, predicted, ops.ones_like(targets)
        counted = weights != 0
        predicted = ops.where(ops.expand_dims(counted, -1), predicted, 0.0)
        return ops.where(counted, targets, 0.0), predicted, weights

    def _log_map(self, p, pits, weights):
        """The logarithm of the map's density at `p`, from other probabilities and their weights."""
        u, w = (ops.reshape(t, (-1,)) for t in (pits, weights))
        # One that does not count, for halves that are empty.
        u, w = (ops.concatenate([t, ops.zeros((1,), t.dtype)]) for t in (u, w))
        centres = ops.concatenate([u, -u, 2.0 - u])
        x = (ops.expand_dims(p, -1) - centres) / self.temperature
        logs = ops.where(w > 0, ops.log(ops.where(w > 0, w, 1.0)), -1e30)
        kernels = ops.concatenate([logs] * 3) - ops.softplus(x) - ops.softplus(-x)
        inside = ops.sigmoid((1.0 + u) / self.temperature) - ops.sigmoid(
            (u - 2.0) / self.temperature
        )
        total = self.temperature * ops.sum(w * inside)
        some = total > 0
        change = ops.logsumexp(kernels, axis=-1) - ops.log(ops.where(some, total, 1.0))
        return ops.where(some, change, 0.0)
