"""The base classes of the losses here: Keras' own, with what it does to weights and labels made safe."""

import math

import keras
import numpy as np
from keras import ops, tree

from keras_regularize._validation import check_integer
from keras_regularize.autodiff import backend
from keras_regularize.labels import check_labels, read_labels
from keras_regularize.masks import keras_mask, with_mask


class Loss(keras.losses.Loss):
    """`keras.losses.Loss` that takes `(batch,)` sample weights for `(batch, time, …)` values, and exact labels.

    Keras multiplies values and weights as they are, which fails for `(batch,)` against `(batch,
    time)`. A weight of lower rank than the values counts here for every position of its sample.
    Keras casts `y_true` to the dtype of the loss, in which half precision has few class ids: here
    `call` is given it as it is. Masks and reductions stay Keras' own, and `get_config` keeps
    `dtype`, which Keras leaves out.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        with keras.name_scope(self.name):
            single = ops.is_tensor(y_pred)
            outputs = self._convert(y_pred) if single else tree.map_structure(self._convert, y_pred)
            y_true = self._targets(y_true, outputs, y_pred, sample_weight)
            values = self.call(y_true, outputs)
        if single and sample_weight is None and self.reduction in ("mean", "sum_over_batch_size"):
            if not (
                backend.carries_mask(y_pred) or backend.carries_mask(values) or 0 in values.shape
            ):
                # Keras' reduction in one operation of its twenty, which matters where nothing is compiled.
                return ops.sum(self._convert(values)) / math.prod(values.shape)
        return self._reduced(values, self.reduction, y_pred, sample_weight)

    def _convert(self, x):
        if ops.is_tensor(x) and keras.backend.standardize_dtype(x.dtype) == self.dtype:
            return x
        return ops.convert_to_tensor(x, dtype=self.dtype)

    def _targets(self, y_true, outputs, y_pred, sample_weight):
        """What `call` is given for `y_true`; `outputs` are the predictions in the dtype of the loss."""
        return tree.map_structure(ops.convert_to_tensor, y_true)

    def _reduced(self, values, reduction, y_pred, sample_weight):
        """Keras' reduction of values, with the mask that the predictions carry."""
        weight = None if sample_weight is None else self._convert(sample_weight)
        if weight is not None:
            given, rank = len(weight.shape), len(values.shape)
            if 0 < given <= rank:
                if given < rank:
                    weight = ops.expand_dims(weight, axis=tuple(range(given, rank)))
                # Spelled out per position: `mean_with_sample_weight` divides by the sum of weights, and torch
                # multiplies a mask into them in place.
                weight = weight * ops.ones_like(values)
        return Reduction(values, reduction, self.name, self.dtype)((), y_pred, weight)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


class ClassLoss(Loss):
    """A loss of class labels: subclasses give the `values` for labels that are classes.

    An id that is no class is an error if it can be looked at, as outside of compiled code; else its value is
    NaN, or 0 where weight or mask are 0. The id `ignore_class` is treated as
    `keras.losses.SparseCategoricalCrossentropy` does: value 0, no gradient, and a mask on the values by which
    reductions leave the sample out.
    """

    def __init__(self, ignore_class=None, **kwargs):
        super().__init__(**kwargs)
        if ignore_class is not None:
            check_integer("ignore_class", ignore_class)
            ignore_class = int(ignore_class)
        self.ignore_class = ignore_class

    def values(self, labels, y_pred):
        """The values `(batch,)`, or one per position, for `labels` as `read_labels` gives them."""
        raise NotImplementedError

    def call(self, y_true, y_pred):
        labels = check_labels(self.read(y_true, y_pred), y_pred)
        outside, counted = labels.outside, labels.counted
        if counted is not None:
            y_pred = ops.where(ops.expand_dims(counted, -1), y_pred, 0.0)
        values = self.values(labels._replace(outside=None), y_pred)
        if outside is not None:
            values = ops.where(outside, np.nan, values)
        if counted is not None:
            values = with_mask(ops.where(counted, values, 0.0), counted)
        return values

    def read(self, y_true, y_pred):
        """The labels of predictions."""
        return read_labels(y_true, y_pred, self.ignore_class)

    def _targets(self, y_true, outputs, y_pred, sample_weight):
        labels = self.read(y_true, outputs)
        if labels.outside is not None:
            # Where weight or mask are 0 a label does not matter.
            ones = ops.cast(ops.ones_like(labels.outside), self.dtype)
            weight = self._reduced(ones, "none", y_pred, sample_weight)
            weight = ops.reshape(weight, ops.shape(ones)) if sample_weight is not None else weight
            outside = ops.logical_and(labels.outside, ops.not_equal(weight, 0))
            some = labels.known is None or ops.convert_to_numpy(outside).any()
            labels = labels._replace(outside=outside if some else None)
        return labels

    def get_config(self):
        return {**super().get_config(), "ignore_class": self.ignore_class}


class Reduction(keras.losses.Loss):
    """Keras' masking, weighting and reduction of values that are computed already."""

    def __init__(self, values, reduction, name, dtype):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.values = values

    def __call__(self, y_true, y_pred, sample_weight=None):
        divides = self.reduction not in (None, "none", "sum") and len(self.values.shape) > 0
        alike = sample_weight is None or len(sample_weight.shape) == len(self.values.shape)
        if not (divides and alike and backend.DIVIDES_IN_FLOAT32 and self.dtype == "float64"):
            return super().__call__(y_true, y_pred, sample_weight)
        weighted = self.reduction == "mean_with_sample_weight"
        counted = ops.ones_like(self.values)
        if (mask := keras_mask(self.values)) is not None:
            counted = with_mask(counted, mask)
        total, count = (
            Reduction(values, "sum", self.name, self.dtype)((), y_pred, weight)
            for values, weight in (
                (self.values, sample_weight),
                (counted, sample_weight if weighted else None),
            )
        )
        return ops.where(count == 0, 0.0, total / ops.where(count == 0, 1.0, count))

    def call(self, y_true, y_pred):
        # Called with the predictions for the mask that they carry.
        return self.values
