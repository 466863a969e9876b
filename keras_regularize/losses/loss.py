"""The base classes of the losses here: Keras' own, with what it does to weights and labels made safe."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.labels import Labels, check_labels, read_labels
from keras_regularize.masks import keras_mask, with_mask
from keras_regularize.validation import check_integer


class Loss(Configured, keras.losses.Loss):
    """`keras.losses.Loss` that takes sample weights for sequences, and labels as they are: a base for losses.

    Keras multiplies values and weights as they are, which fails for `(batch,)` against `(batch,
    time)`. A weight of lower rank than the values counts here for every position of its sample.
    Keras casts `y_true` to the dtype of the loss, in which half precision has few class ids: here
    `call` is given it as it is. Masks and reductions stay Keras' own. A subclass overrides
    `call(y_true, y_pred)`, which gives a value per sample or position; its config is read from its constructor.

    Args:
        name: Name of the loss.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Cost: that of `call`.

    Example:

    ```python
    import keras
    import keras_regularize as kr


    class Quartic(kr.losses.Loss):
        def __init__(self, scale=1.0, **kwargs):
            super().__init__(**kwargs)
            self.scale = scale

        def call(self, y_true, y_pred):
            error = keras.ops.cast(y_true, y_pred.dtype) - y_pred
            return keras.ops.mean((error / self.scale) ** 4, axis=-1)


    Quartic(2.0, name="quartic").get_config()["scale"]  # 2.0
    ```
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: str | None = None,
    ):
        # Named here because the config of Keras leaves out the dtype.
        super().__init__(name=name, reduction=reduction, dtype=dtype)

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
                return backend.total(self._convert(values)) / math.prod(values.shape)
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
            if any(size != 1 for size in weight.shape[max(rank, 1) :]):
                raise ValueError(
                    "Expected a weight for each value or sample. Received: "
                    f"sample_weight.shape={tuple(weight.shape)} for values of shape {tuple(values.shape)}"
                )
            if 0 < given <= rank:
                if given < rank:
                    weight = ops.expand_dims(weight, axis=tuple(range(given, rank)))
                # Spelled out per position: `mean_with_sample_weight` divides by the sum of weights, and torch
                # multiplies a mask into them in place.
                weight = weight * ops.ones_like(values)
        return Reduction(values, reduction, self.name, self.dtype)((), y_pred, weight)


class ClassLoss(Loss):
    """A loss of class labels: a base for losses that gives them labels which are classes.

    A subclass overrides `values(labels, y_pred)` with one value per sample or position; `labels` has either `ids`
    (class ids) or `rows` (one-hot or soft), the other is `None`. An id that is no class is an error if it can be
    looked at, as outside of compiled code; else its value is NaN, or 0 where weight or mask are 0. The id
    `ignore_class` is treated as by `keras.losses.SparseCategoricalCrossentropy`: value 0, no gradient, and a mask
    on the values by which reductions leave the sample out.

    Args:
        ignore_class: Class id of samples that do not count, or `None`. For ids only.
        **kwargs: `name`, `reduction` and `dtype` as in `keras.losses.Loss`.

    Raises:
        ValueError: If labels and predictions do not fit, or an id is no class, where it can be looked at.

    Cost: that of `values` and a look at the labels.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class Confidence(kr.losses.ClassLoss):
        "One less the probability of the label, whatever form the label has."

        def values(self, labels, y_pred):
            p = keras.ops.softmax(y_pred, axis=-1)
            if labels.rows is not None:
                return 1.0 - keras.ops.sum(labels.rows * p, axis=-1)
            return 1.0 - keras.ops.take_along_axis(p, labels.ids[..., None], axis=-1)[..., 0]


    Confidence(ignore_class=-1)(np.array([0, 2, -1]), np.zeros((3, 3), "float32"))  # 2/3
    ```
    """

    def __init__(self, ignore_class: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.ignore_class = check_integer("ignore_class", ignore_class, optional=True)

    def values(self, labels: Labels, y_pred: Any) -> Any:
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

    def read(self, y_true: Any, y_pred: Any) -> Labels:
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
