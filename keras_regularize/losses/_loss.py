"""The base class of every loss here: Keras' own, and sample weights for values per position."""

import keras
from keras import ops


class Loss(keras.losses.Loss):
    """`keras.losses.Loss` that also takes `(batch,)` sample weights for `(batch, time, …)` values.

    Keras multiplies values and weights as they are, which fails for `(batch,)` against `(batch,
    time)`. A weight of lower rank than the values counts here for every position of its sample.
    Masks and reductions stay Keras' own, and `get_config` keeps `dtype`, which Keras leaves out.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is None:
            return super().__call__(y_true, y_pred)

        def convert(x):
            return ops.convert_to_tensor(x, dtype=self.dtype)

        with keras.name_scope(self.name):
            values = self.call(
                keras.tree.map_structure(convert, y_true), keras.tree.map_structure(convert, y_pred)
            )
            weight = convert(sample_weight)
            given, rank = len(weight.shape), len(values.shape)
            if 0 < given <= rank:
                if given < rank:
                    weight = ops.expand_dims(weight, axis=tuple(range(given, rank)))
                # Spelled out per position: `mean_with_sample_weight` divides by the sum of weights.
                weight = weight * ops.ones_like(values)
        reduction = _Reduction(reduction=self.reduction, name=self.name, dtype=self.dtype)
        return reduction(values, y_pred, weight)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


class _Reduction(keras.losses.Loss):
    """Keras' masking, weighting and reduction of values that are computed already."""

    def call(self, y_true, y_pred):
        # Called with the values for labels, and with the predictions for the mask that they carry.
        return y_true
