"""The weak learner of a boosted network."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class BoostedLearner(Configured, keras.layers.Layer):
    r"""A shallow network that corrects others, and shows the next one what it has seen.

    $$u = \mathrm{BN}\big(\mathrm{lrelu}(A\,\mathrm{BN}[x, h'] + a)\big), \qquad h = B u + b, \qquad
      f = c + C\,\mathrm{relu}(h),$$

    with the features $h'$ of the learner before; the first learner sees $x$ alone, without normalization. It is
    what `kr.models.GrowNet` grows by.

    Args:
        hidden_units: Width of $u$, at least 1.
        feature_units: Width of $h$; by default that of $u$.
        output_units: Number of scores, at least 1.
        negative_slope: Slope of the leaky ReLU for negative numbers, at least 0.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `x` of shape `(…, inputs)`, or `[x, features]` with features `(…, feature_units)`. A `mask` of the shape
    of the leading axes leaves what it does not set out of the statistics of normalization.

    Output: `[features, scores]`, `(…, feature_units)` and `(…, output_units)`.

    Raises:
        ValueError: If an argument is out of range, or a last axis is unknown.

    Cost: three products of matrices.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(8, 5)).astype("float32")
    features, score = kr.layers.BoostedLearner(16)(x)
    features, correction = kr.layers.BoostedLearner(16)([x, features])
    ```

    Reference: Sarkhan Badirli, Xuanqing Liu, Zhengming Xing, Avradeep Bhowmik, Khoa Doan and Sathiya S. Keerthi,
    *Gradient Boosting Neural Networks: GrowNet*, 2020, arXiv:2002.07971. The layers are those of their code.
    """

    def __init__(
        self,
        hidden_units: int = 16,
        feature_units: int | None = None,
        output_units: int = 1,
        negative_slope: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.hidden_units = check_integer("hidden_units", hidden_units, minimum=1)
        self.feature_units = check_integer("feature_units", feature_units, minimum=1, optional=True)
        self.output_units = check_integer("output_units", output_units, minimum=1)
        self.negative_slope = check_number("negative_slope", negative_slope, minimum=0)

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        self.input_norm = None
        if isinstance(shape[0], (list, tuple)):
            (*leading, width), (*_, features) = shape
            shape = (*leading, None if None in (width, features) else width + features)
            self.input_norm = self._part(_normalization(self), "input_norm", shape)
        if shape[-1] is None:
            raise ValueError(
                f"`BoostedLearner` needs inputs with a known last axis. Received: shape={shape}"
            )
        dense, policy = keras.layers.Dense, self.dtype_policy
        inner = (*shape[:-1], self.hidden_units)
        width = self.feature_units or self.hidden_units
        self.hidden = self._part(dense(self.hidden_units, dtype=policy), "hidden", shape)
        self.hidden_norm = self._part(_normalization(self), "hidden_norm", inner)
        self.features = self._part(dense(width, dtype=policy), "features", inner)
        scores = dense(self.output_units, dtype=policy)
        self.scores = self._part(scores, "scores", (*shape[:-1], width))

    def _part(self, layer, name, shape):
        layer.name = name
        layer.build(shape)
        return layer

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        mask, _ = self.compute_mask(inputs, mask)
        x = inputs
        if self.input_norm is not None:
            x = self.input_norm(ops.concatenate(inputs, axis=-1), training=training, mask=mask)
        x = ops.leaky_relu(self.hidden(x), self.negative_slope)
        features = self.features(self.hidden_norm(x, training=training, mask=mask))
        return [features, self.scores(ops.relu(features))]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        mask = previous_mask
        return [mask[0] if isinstance(mask, (list, tuple)) else mask] * 2

    def compute_output_shape(self, input_shape: Any) -> Any:
        several = isinstance(input_shape[0], (list, tuple))
        leading = tuple(input_shape[0] if several else input_shape)[:-1]
        return [(*leading, self.feature_units or self.hidden_units), (*leading, self.output_units)]


def _normalization(layer):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=layer.dtype_policy)
