"""What the margin heads share: cosines with the directions of the classes, and a changed logit of the label."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.labels import pick
from keras_regularize.layers.heads.labels import class_ids, features_and_labels, features_shape
from keras_regularize.numerics import GUARD, matmul, maximum, safe_sqrt, unit_vectors, upcast
from keras_regularize.validation import check_integer, check_number


class Angle(NamedTuple):
    """Angles from 0 to π."""

    cosine: Any
    sine: Any

    def cosine_of_sum(self, shift):
        """The cosine of angle and `shift`, a number or tensor in radians; the sum is kept from 0 to π."""
        if isinstance(shift, float):
            shift = min(max(shift, -math.pi), math.pi)
            cosine, sine, sign = math.cos(shift), math.sin(shift), float(np.sign(shift))
        else:
            shift = ops.clip(shift, -math.pi, math.pi)
            cosine, sine, sign = ops.cos(shift), ops.sin(shift), ops.sign(shift)
        outside = sign * self.cosine <= -cosine
        return ops.where(outside, -sign, cosine * self.cosine - sine * self.sine)


class Samples(NamedTuple):
    """What a head knows of a batch in training: `(batch, d)` features, and per sample the id and the angle.

    The id is -1 without a label; the angle between features and label's direction means nothing there.
    """

    features: Any
    ids: Any
    angle: Angle | None


class CosineHead(Configured, keras.layers.Layer):
    """Scaled cosines; subclasses say in `with_margin` what training makes of them.

    Of the `sub_centers` directions of a class, which stand side by side in the kernel, the nearest counts.
    """

    sub_centers = 1
    _uses_angle = True

    def __init__(self, units: int, scale: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.scale = check_number("scale", scale, above=0)
        self.autocast = False  # Labels stay exact, and cosines are computed in full precision.

    def build(self, input_shape: Any) -> None:
        shape = features_shape(input_shape)
        if shape[-1] is None:
            raise ValueError(
                f"`{type(self).__name__}` needs a known number of features, the last axis. "
                f"Received: input_shape={shape}"
            )
        columns = self.units * self.sub_centers
        self.kernel = self.add_weight(
            (shape[-1], columns), _unit_columns, name="kernel", autocast=False
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, labels = features_and_labels(self, inputs, training, self.units)
        features = upcast(ops.cast(features, self.variable_dtype))
        directions = _directions(features)
        kernel = _directions(upcast(self.kernel), axis=0)
        cosine = matmul(directions, kernel)
        nearest = None
        if self.sub_centers > 1:
            each = ops.reshape(cosine, (-1, self.units, self.sub_centers))
            nearest, cosine = ops.argmax(each, axis=-1), ops.max(each, axis=-1)
        if labels is not None:
            ids, angle = class_ids(labels, cosine), None
            if self._uses_angle:
                angle = _angle(directions, _columns(kernel, ids, nearest, self.sub_centers))
            cosine = self.with_margin(cosine, Samples(features, ids, angle))
        return ops.cast(self.scale * cosine, self.compute_dtype)

    def with_margin(self, cosine: Any, samples: Samples) -> Any:
        """The cosines `(batch, units)` that training sees."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*features_shape(input_shape)[:-1], self.units)


class ClassMargins:
    """One margin for all classes, or one for each."""

    def __init__(self, margin, units):
        self.config = _margins(margin, units)
        self._values = np.asarray(self.config, "float32")

    def of(self, ids, dtype):
        """A number, or `(batch,)` margins of the samples' classes."""
        if not self._values.ndim:
            return self.config
        values = ops.convert_to_tensor(self._values, dtype=dtype)
        return ops.take(values, ops.clip(ids, 0, len(self._values) - 1), axis=0)


def _directions(x, axis=-1):
    """`unit_vectors(x, axis)`, in the few operations that usual vectors need where they can be looked at."""
    norms = backend.norms(x, axis)
    return unit_vectors(x, axis) if norms is None else x / norms


def at_label(ids, units):
    """Bools `(batch, units)`, set at the label."""
    return ops.equal(ids[..., None], ops.arange(units, dtype="int32"))


def replace_own(cosine, ids, own):
    """The cosines with those of the labels replaced."""
    if not _all_inside(ids, cosine):
        inside, ids = _inside(ids, cosine)
        own = ops.where(inside, own, pick(cosine, ids))
    return backend.put_last(cosine, ids, own)


def add_to_own(cosine, ids, values):
    """The cosines with numbers, which have no gradient, added to those of the labels."""
    if not _all_inside(ids, cosine):
        inside, ids = _inside(ids, cosine)
        values = ops.where(inside, values, 0.0)
    return backend.add_last(cosine, ids, values)


def _all_inside(ids, cosine):
    """Whether each sample is seen to have a label."""
    known = backend.peek(ids)
    return known is not None and known.size and known.min() >= 0 and known.max() < cosine.shape[-1]


def _inside(ids, cosine):
    """Where there is a label, and ids with a 0 where there is none."""
    inside = ops.logical_and(ids >= 0, ids < cosine.shape[-1])
    return inside, ops.where(inside, ids, 0)


def _angle(x, y):
    """The angles between unit vectors `(batch, d)`.

    From difference and sum, of squared lengths 2 ∓ 2 cos: the product of the vectors has lost the angle where it
    is close to ±1, and the sine of it an infinite slope, which cancels only on paper. The gradient of the sine is
    0 at an angle of 0 or π, where it has no direction. A vector that is zero is at right angles to all.
    """
    apart, along = x - y, x + y
    apart, along = ops.sum(apart * apart, axis=-1), ops.sum(along * along, axis=-1)
    total = maximum(apart + along, GUARD)
    return Angle((along - apart) / total, 2.0 * safe_sqrt(apart * along) / total)


def _columns(kernel, ids, nearest, sub_centers):
    """The directions `(batch, d)` of the labels, of several the nearest."""
    ids = ops.clip(ids, 0, kernel.shape[-1] // sub_centers - 1)
    if nearest is not None:
        ids = ids * sub_centers + ops.cast(pick(nearest, ids), ids.dtype)
    if backend.RUNS_ONE_BY_ONE:  # A dozen operations of `ops.take` there.
        places = ops.broadcast_to(ids, (kernel.shape[0], *ids.shape))
        return ops.transpose(backend.take_last(kernel, places))
    return ops.transpose(ops.take(kernel, ids, axis=1))


def _margins(margin, units):
    if not isinstance(margin, (Sequence, np.ndarray)) or isinstance(margin, str):
        return check_number("margin", margin, minimum=0)
    margins = list(margin)
    if len(margins) != units:
        raise ValueError(
            f"`margin` must be a number, or one for each of the {units} classes. "
            f"Received: {len(margins)} numbers"
        )
    margins = [value.item() if hasattr(value, "item") else value for value in margins]
    return [check_number("margin", value, minimum=0) for value in margins]


def _unit_columns(shape, dtype=None):
    return unit_vectors(keras.initializers.RandomUniform(-1.0, 1.0)(shape, dtype), axis=0)
