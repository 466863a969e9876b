"""What every metric of lists has in common."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.lists import Lists, read_lists, without_masked
from keras_regularize.metrics._samples import aligned_weights
from keras_regularize.metrics._weighted_mean import WeightedMean
from keras_regularize.numerics import maximum


class RankingMetric(WeightedMean):
    """A mean over the queries that have items; a subclass overrides `list_values(lists)`."""

    def list_values(self, lists: Lists) -> Any:
        """The values `(batch,)`."""
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the queries of a batch."""
        relevance, scores, there = read_lists(without_masked(y_true, y_pred), y_pred)
        relevance, scores = ops.cast(relevance, "float32"), ops.cast(scores, "float32")
        values = self.list_values(Lists(relevance, scores, there))
        values = ops.where(ops.any(ops.isnan(scores), axis=-1), np.nan, values)
        weight = ops.cast(ops.any(there, axis=-1), "float32")
        if sample_weight is not None:
            given = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            weight = weight * aligned_weights(given, tuple(weight.shape))
        self.add_values(values, weight)


def by_rank(lists, values):
    """Values of items `(batch, list)` by descending score, at equal scores in the order they are given."""
    scores = ops.where(lists.there, maximum(lists.scores, -3e38), -np.inf)  # Padding is behind all.
    return ops.take_along_axis(values, ops.argsort(-scores, axis=-1), axis=-1)


def discounts(lists, function, k):
    """A function of the ranks `(list,)`, which begin at 1, and 0 beyond `k`."""
    rank = 1.0 + ops.arange(ops.shape(lists.scores)[-1], dtype="float32")
    return function(rank) if k is None else ops.where(rank <= k, function(rank), 0.0)


def ratio(values, most):
    """`values / most`, and 0 where that is 0."""
    return ops.where(most == 0, 0.0, values / ops.where(most == 0, 1.0, most))
