"""What every metric of images has in common: a mean over images."""

from typing import Any

from keras import ops

from keras_regularize.metrics._samples import position_weights
from keras_regularize.metrics._weighted_mean import WeightedMean


class ImageMetric(WeightedMean):
    """A mean over images; a subclass overrides `image_values(y_true, y_pred)`."""

    def image_values(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """The values `(batch,)`, and what they count, or `None`."""
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the images of a batch."""
        values, counted = self.image_values(y_true, y_pred)
        values = ops.cast(values, "float32")
        counted = ops.ones_like(values) if counted is None else ops.cast(counted, "float32")
        weight = position_weights(y_pred, tuple(values.shape), sample_weight)
        self.add_values(values, counted if weight is None else counted * weight)
