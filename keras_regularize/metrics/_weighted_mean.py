"""A metric that is a weighted mean."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import leave_out
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total


class WeightedMean(Configured, keras.metrics.Metric):
    """A weighted mean of values, one per sample: a numerator and a denominator."""

    def __init__(self, name: str | None, dtype: str | None):
        super().__init__(name=name, dtype=dtype)
        self._sums = add_sums(self, (1, 2))

    def add_values(self, values: Any, weight: Any) -> None:
        """Adds values with weights of their shape; what has weight 0 may be anything."""
        values = leave_out(values, weight)
        segments = ops.zeros_like(weight, dtype="int32")
        accumulate(self._sums, segment_sums([values, weight], segments, 1))

    def result(self):
        """The metric of the samples so far."""
        value, weight = ops.unstack(total(self._sums)[0], 2)
        return ops.where(weight == 0, 0.0, value / ops.where(weight == 0, 1.0, weight))
