"""Targets of regression in the forms Keras users pass them, told apart in one place."""

from typing import Any

from keras import ops

from keras_regularize.numerics import masked_mean, mean, upcast
from keras_regularize.validation import compatible


def align_targets(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets and predictions of one shape, in one dtype of at least float32.

    A last axis of size 1 may lack on either side, and the shape is that of the predictions: nothing is broadcast.
    """
    predicted = upcast(y_pred)
    targets = ops.cast(ops.convert_to_tensor(y_true), predicted.dtype)
    given, rank = tuple(targets.shape), len(predicted.shape)
    if len(given) == rank - 1 and predicted.shape[-1] == 1:
        targets = ops.expand_dims(targets, -1)
    elif len(given) == rank + 1 and given[-1] == 1:
        targets = ops.squeeze(targets, -1)
    if not rank or not compatible(targets.shape, predicted.shape):
        raise ValueError(
            "`y_true` must have the shape of `y_pred`, (batch, ...), but for a last axis of size 1. "
            f"Received: y_true.shape={given}, y_pred.shape={tuple(predicted.shape)}"
        )
    return targets, predicted


def split_parameters(y_true: Any, y_pred: Any, parameters: int | None = None) -> tuple[Any, Any]:
    """Targets `(...)`, and `parameters` numbers predicted for each in the last axis; dtypes as by `align_targets`.

    Targets may have a last axis of size 1. Without `parameters` any number of them goes.
    """
    predicted = upcast(y_pred)
    targets = ops.cast(ops.convert_to_tensor(y_true), predicted.dtype)
    given, shape = tuple(targets.shape), tuple(predicted.shape)
    if given and len(given) == len(shape) and given[-1] == 1:
        targets = ops.squeeze(targets, -1)
    wrong = len(shape) < 2 or parameters is not None and shape[-1] != parameters
    if wrong or not compatible(targets.shape, shape[:-1]):
        last = "n" if parameters is None else parameters
        raise ValueError(
            f"Expected targets (batch, ...) or (batch, ..., 1) and predictions (batch, ..., {last}). "
            f"Received: y_true.shape={given}, y_pred.shape={shape}"
        )
    return targets, predicted


def mean_of_outputs(values: Any) -> Any:
    """The mean over the last axis, as in Keras' losses; values `(batch,)` are those of the samples already."""
    return mean(values, axis=-1) if len(values.shape) > 1 else values


def measured_targets(y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
    """Depths `(batch, ...)`, predictions, and 1 where a depth is measured, a positive finite number, else 0.

    Where it is not, both are 1. `(batch,)` becomes `(batch, 1)`.
    """
    targets, predicted = align_targets(y_true, y_pred)
    if len(targets.shape) == 1:
        targets, predicted = targets[:, None], predicted[:, None]
    there = ops.logical_and(targets > 0, targets < float("inf"))
    targets, predicted = ops.where(there, targets, 1.0), ops.where(there, predicted, 1.0)
    return targets, predicted, ops.cast(there, targets.dtype)


def mean_of_samples(values: Any, there: Any, keepdims: bool = False) -> Any:
    """The mean of a sample's values `(batch, ...)` that are there `(batch,)`, 0 without any."""
    axes = tuple(range(1, len(values.shape)))
    means = masked_mean(values, there, axis=axes)
    return ops.expand_dims(means, axis=axes) if keepdims else means
