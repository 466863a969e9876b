"""Lists of items with a relevance and a score each, some of them padding, read in one place."""

from typing import Any, NamedTuple

from keras import ops

from keras_regularize.masks import keras_mask
from keras_regularize.numerics import as_float
from keras_regularize.targets import align_targets


class Lists(NamedTuple):
    """A list of items per query.

    Attributes:
        relevance: Numbers `(batch, list)`, 0 for padding.
        scores: Numbers `(batch, list)`, 0 for padding.
        there: Bools `(batch, list)`, unset for padding.
    """

    relevance: Any
    scores: Any
    there: Any


def read_lists(y_true: Any, y_pred: Any) -> Lists:
    """The lists of relevances and scores; a relevance below 0 marks padding."""
    relevance, scores = align_targets(y_true, y_pred)
    if len(scores.shape) == 3 and scores.shape[-1] == 1:
        relevance, scores = relevance[..., 0], scores[..., 0]
    given = tuple(ops.convert_to_tensor(y_true).shape)
    if len(scores.shape) != 2 or len(given) < 2:
        raise ValueError(
            "Expected relevances and scores of the items of each query, (batch, list) or (batch, list, 1). "
            f"Received: y_true.shape={given}, y_pred.shape={tuple(ops.convert_to_tensor(y_pred).shape)}"
        )
    padding = relevance < 0
    scores = ops.where(ops.isnan(relevance), relevance, scores)  # Comparisons would hide it.
    return Lists(
        ops.where(padding, 0.0, relevance),
        ops.where(padding, 0.0, scores),
        ops.logical_not(padding),
    )


def without_masked(y_true: Any, y_pred: Any) -> Any:
    """Relevances that are -1 where the mask of the scores is unset; as they are without a mask of items."""
    mask = keras_mask(y_pred)
    if mask is None or len(mask.shape) < 2:
        return y_true
    y_true = as_float(y_true)
    return ops.where(ops.reshape(mask, ops.shape(y_true)), y_true, -1.0)
