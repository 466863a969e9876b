"""The base of regularizers whose value is one number for the features of a batch."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.ops.points import feature_rows
from keras_regularize.regularizers.activity import to_be_divided


class FeatureRegularizer(Configured, keras.regularizers.Regularizer):
    """An activity regularizer that adds the `penalty` of a batch of features, once."""

    def penalty(self, rows: Any) -> Any:
        """The scalar for features `(batch, dim)` of at least one sample, in at least float32."""
        raise NotImplementedError

    def __call__(self, x: Any) -> Any:
        rows = feature_rows(x)
        if rows.shape[0] == 0:
            return 0.0 * ops.sum(rows)
        penalty = self.penalty(rows)
        return to_be_divided(penalty * ops.cast(ops.shape(rows)[0], penalty.dtype), rows)
