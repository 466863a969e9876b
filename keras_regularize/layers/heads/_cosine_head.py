"""What the margin heads share: cosines with one direction per class, and a changed logit of the label."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize._validation import check_integer, check_number
from keras_regularize.labels import label_mask
from keras_regularize.layers.heads._labels import features_and_labels, features_shape
from keras_regularize.numerics import unit_vectors, upcast


class CosineHead(keras.layers.Layer):
    """Scaled cosines; subclasses say in `with_margin` what training makes of them.

    The cosines that training sees are clipped `_clip` inside ±1, where the arccosine has a slope.
    """

    _clip = 1e-4

    def __init__(self, units, scale, **kwargs):
        check_integer("units", units, minimum=1)
        check_number("scale", scale, minimum=0)
        if scale == 0:
            raise ValueError(f"`scale` must be positive. Received: scale={scale!r}")
        super().__init__(**kwargs)
        self.units = int(units)
        self.scale = float(scale)
        self.autocast = False  # Labels stay exact, and cosines are computed in full precision.

    def build(self, input_shape: Any) -> None:
        shape = features_shape(input_shape)
        if shape[-1] is None:
            raise ValueError(
                f"`{type(self).__name__}` needs a known number of features, the last axis. "
                f"Received: input_shape={shape}"
            )
        self.kernel = self.add_weight(
            (shape[-1], self.units), _unit_columns, name="kernel", autocast=False
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, labels = features_and_labels(self, inputs, training)
        features = upcast(ops.cast(features, self.variable_dtype))
        kernel = upcast(self.kernel)
        cosine = ops.matmul(unit_vectors(features), unit_vectors(kernel, axis=0))
        if labels is not None:
            cosine = ops.clip(cosine, -1.0 + self._clip, 1.0 - self._clip)
            cosine = self.with_margin(features, cosine, label_mask(labels, cosine))
        return ops.cast(self.scale * cosine, self.compute_dtype)

    def with_margin(self, features, cosine, label):
        """The cosines `(batch, units)` that training sees; `label` is set at each sample's label."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*features_shape(input_shape)[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "scale": self.scale}


def own_cosine(cosine, label):
    """The cosine with the direction of the label, `(batch,)`; 0 without a label."""
    return ops.sum(ops.where(label, cosine, 0.0), axis=-1)


def replace_own(cosine, label, own):
    """The cosines with those of the labels replaced."""
    return ops.where(label, ops.expand_dims(own, -1), cosine)


def rotated(cosine, angle, clip=1e-4):
    """The cosine of the same angle plus another, both in radians; the sum stays within 0 and π."""
    return ops.cos(ops.clip(ops.arccos(cosine) + angle, clip, math.pi - clip))


def _unit_columns(shape, dtype=None):
    return unit_vectors(keras.initializers.RandomUniform(-1.0, 1.0)(shape, dtype), axis=0)
