"""How far the features of generated data are from those of real data."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.metrics._samples import position_weights
from keras_regularize.numerics import upcast
from keras_regularize.ops.bures import bures_distance
from keras_regularize.registration import export
from keras_regularize.utils.frozen_models import (
    deserialize_with_weights,
    serialize_with_weights,
)


@export
class FrechetDistance(keras.metrics.Metric):
    r"""Distance of generated from real data, as normal distributions of features: FID for features of choice.

    $$\|\mu - \hat \mu\|^2 + \operatorname{tr} C + \operatorname{tr} \hat C
      - 2 \operatorname{tr} \big(C^{1/2} \hat C\, C^{1/2}\big)^{1/2}$$

    for mean and covariance (with $n - 1$) of what the extractor gives for `y_true` and for `y_pred`, over all
    batches. With the Inception network it is the Fréchet inception distance, of which published numbers are made;
    with a classifier of the data at hand it tells models of them apart. Its expectation falls with the number of
    samples: compare at equal ones, several times as many as there are features.

    The two need not be paired. Means and squares are merged so that large means cost no digits. It runs in
    `compile(metrics=[…])` of a model whose outputs are data, such as `kr.models.VAE`, and by `update_state`.

    Args:
        feature_extractor: A built functional or sequential model from data to features `(batch, d)`, which is used
            as it is, without training. Its weights are part of the metric's config, and of saved models that are
            compiled with it.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Real data `(batch, …)`.
        y_pred: Generated data `(batch, …)`.
        sample_weight: Weights `(batch,)`, or a scalar; only their proportions matter. Data of weight 0 do not
            count.

    Returns:
        `result()` is a float32 scalar, at least 0 but for rounding; 0 before the first data.

    Raises:
        ValueError: If the extractor is no such model.

    Cost: two passes of the extractor and two products `(d, batch, d)` per update; two eigendecompositions `(d, d)`
    for the result.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    extractor = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "tanh")])
    metric = kr.metrics.FrechetDistance(extractor)
    real, generated = np.random.normal(size=(2, 100, 8))
    metric.update_state(real, generated)
    distance = float(metric.result())
    ```

    Reference: Martin Heusel, Hubert Ramsauer, Thomas Unterthiner, Bernhard Nessler and Sepp Hochreiter, *GANs
    Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, NeurIPS 2017, arXiv:1706.08500.
    """

    def __init__(
        self,
        feature_extractor: keras.Model,
        name: str | None = "frechet_distance",
        dtype: str | None = None,
    ):
        outputs = getattr(feature_extractor, "outputs", None)
        shape = tuple(outputs[0].shape) if outputs and len(outputs) == 1 else ()
        if len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "`feature_extractor` must be a built functional or sequential model that gives features "
                f"(batch, d). Received: feature_extractor={feature_extractor!r}"
            )
        super().__init__(name=name, dtype=dtype)
        self.feature_extractor = feature_extractor
        size = shape[1]
        # Number, mean and squares around it, of real and of generated data; the same on all replicas.
        self._numbers = self._kept("numbers", (2,))
        self._square_weights = self._kept("square_weights", (2,))
        self._means = self._kept("means", (2, size))
        self._squares = self._kept("squares", (2, size, size))

    def _kept(self, name, shape):
        return self.add_variable(shape, "zeros", "float32", "only_first_replica", name)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_extractor": serialize_with_weights(self.feature_extractor),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Any = None
    ) -> "FrechetDistance":
        extractor = deserialize_with_weights(config["feature_extractor"], custom_objects)
        return cls(**{**config, "feature_extractor": extractor})

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds real and generated data."""
        moments = [self._moments(data, sample_weight) for data in (y_true, y_pred)]
        number, square, mean, squares = (ops.stack(parts) for parts in zip(*moments))
        known, total = self._numbers.value, self._numbers.value + number
        share = number / ops.where(total > 0, total, 1.0)
        step = mean - self._means.value
        between = step[:, :, None] * step[:, None, :] * (known * share)[:, None, None]
        self._numbers.assign(total)
        self._square_weights.assign(self._square_weights.value + square)
        self._means.assign(self._means.value + step * share[:, None])
        self._squares.assign(self._squares.value + squares + between)

    def result(self):
        """The distance of the data so far."""
        means, numbers = self._means.value, self._numbers.value
        # Without bias, whatever the size of the weights: of n samples of one weight, n - 1 times that.
        free = numbers - self._square_weights.value / ops.where(numbers > 0, numbers, 1.0)
        some = free > 1e-6 * numbers
        covariances = ops.where(some, 1.0 / ops.where(some, free, 1.0), 0.0)[:, None, None]
        covariances = covariances * self._squares.value
        apart = ops.sum(ops.square(means[0] - means[1]))
        return apart + bures_distance(covariances[0], covariances[1])

    def _moments(self, data, sample_weight):
        data = ops.convert_to_tensor(data)
        features = ops.cast(
            ops.stop_gradient(upcast(self.feature_extractor(data, training=False))), "float32"
        )
        weight = position_weights(data, features.shape[:1], sample_weight)
        ones = ops.ones_like(features[:, 0])
        weight = ones if weight is None else ones * ops.cast(weight, "float32")
        features = ops.where(weight[:, None] != 0, features, 0.0)
        with backend.no_recording():  # A process of PyTorch may measure by itself.
            (features, weight), _ = backend.gather_batch([features, weight])
        number = ops.sum(weight)
        mean = ops.sum(weight[:, None] * features, axis=0) / ops.where(number > 0, number, 1.0)
        centred = features - mean
        square = ops.sum(weight * weight)
        return number, square, mean, ops.matmul(ops.transpose(centred * weight[:, None]), centred)
