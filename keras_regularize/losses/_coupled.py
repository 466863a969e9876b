"""The base class of losses whose value for a sample depends on the others in the batch: only those that count."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.losses.loss import Loss, Reduction
from keras_regularize.masks import keras_mask, with_mask


class BatchCoupledLoss(Loss):
    """A loss that looks at the whole batch, in which samples and positions that do not count are not there.

    Weights of 0, the mask of the predictions and that of the values (`ignore_class`) are known to `values` before
    it compares samples. What does not count may be anything, NaN too. Weights and masks then act on the values as
    Keras has it.
    """

    def values(self, y_true: Any, y_pred: Any, counted: Callable[[Any], Any]) -> tuple[Any, Any]:
        """`(values, mask of the values or None)`; `counted(shape)` are bools that fit the shape, or `None`."""
        raise NotImplementedError

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = keras_mask(y_pred)
        with keras.name_scope(self.name):
            outputs = tree.map_structure(
                lambda x: ops.convert_to_tensor(x, dtype=self.dtype), y_pred
            )
            # Losses of features alone have no targets.
            targets = tree.map_structure(ops.convert_to_tensor, () if y_true is None else y_true)
            weight = sample_weight
            if weight is not None:
                weight = ops.convert_to_tensor(weight, dtype=self.dtype)

            def counted(shape):
                parts = [ops.not_equal(_fit(p, shape), 0) for p in (weight, mask) if p is not None]
                return ops.logical_and(*parts) if len(parts) == 2 else parts[0] if parts else None

            outputs, targets = _finite(outputs, counted), _finite(targets, counted)
            values, own_mask = self.values(targets, outputs, counted)
            if weight is not None:
                given, rank = len(weight.shape), len(values.shape)
                weight = _fit(weight, values.shape)
                alone = mask is None and own_mask is None
                if 0 < given < rank or given == rank and (self._spells_out_weights() or not alone):
                    # Per position: `mean_with_sample_weight` divides by the sum of weights, and beside a mask
                    # Keras fails on PyTorch.
                    weight = weight * ops.ones_like(values)
            if own_mask is not None:
                values = with_mask(values, own_mask)
        return Reduction(values, self.reduction, self.name, self.dtype)((), y_pred, weight)

    def call(self, y_true, y_pred):
        return self.values(y_true, y_pred, lambda shape: None)[0]

    def _spells_out_weights(self):
        return True


def present(counted: Callable[[Any], Any], x: Any) -> Any:
    """1 where an entry of `x` counts in the batch, else 0."""
    kept = counted(x.shape)
    return ops.ones_like(x) if kept is None else ops.ones_like(x) * ops.cast(kept, x.dtype)


def _fit(weight, shape):
    """Weights or a mask in the rank of values of the given static shape."""
    given, rank = tuple(weight.shape), len(shape)
    if len(given) == rank + 1 and given[-1] == 1:
        return ops.squeeze(weight, axis=-1)
    if len(given) > rank:
        raise ValueError(
            f"Expected sample weights, or a mask, of at most the rank of the loss values, {tuple(shape)}. "
            f"Received: shape={given}"
        )
    return ops.expand_dims(weight, axis=tuple(range(len(given), rank))) if given else weight


def _finite(tensor, counted):
    """What does not count, with numbers in the place of NaN and infinities: their gradient is NaN even times 0."""
    if isinstance(tensor, (dict, list, tuple)) or not keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(tensor.dtype)
    ):
        return tensor
    # Predictions may have axes that values have not: the weights are those of the leading ones.
    try:
        kept = counted(tensor.shape)
    except ValueError:
        return tensor
    if kept is None:
        return tensor
    return ops.where(ops.logical_or(kept, ops.isfinite(tensor)), tensor, 0.5)
