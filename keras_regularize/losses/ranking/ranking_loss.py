"""What every loss of lists has in common: items that are padding, by relevance or by mask."""

from typing import Any

import keras

from keras_regularize.lists import Lists, read_lists, without_masked
from keras_regularize.losses.loss import Loss
from keras_regularize.masks import keras_mask

#: The score of what is not there: its exponential is 0 beside any other.
BELOW = -1e30


class RankingLoss(Loss):
    """A loss of lists with one value per query; a subclass overrides `list_values(lists)`."""

    def list_values(self, lists: Lists) -> Any:
        """The values `(batch,)`."""
        raise NotImplementedError

    def call(self, y_true, y_pred):
        return self.list_values(read_lists(y_true, y_pred))

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = keras_mask(y_pred)
        if mask is None or len(mask.shape) < 2:
            return super().__call__(y_true, y_pred, sample_weight)
        with keras.name_scope(self.name):  # The mask is that of items, not of the values.
            values = self.call(without_masked(y_true, y_pred), self._convert(y_pred))
        return self._reduced(values, self.reduction, values, sample_weight)
