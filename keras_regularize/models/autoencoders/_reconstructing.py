"""Models with a loss of their own, which predict reconstructions."""

from typing import Any

import keras

from keras_regularize.autodiff import backend
from keras_regularize.models.step.standalone import OwnLoss


class Reconstructing(OwnLoss):
    """A model with a loss of its own, whose `predict` is its `reconstruct`."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        reconstruction = _Reconstruction(self)
        self._reconstruction = lambda: reconstruction  # Not tracked: it has the same weights.

    def reconstruct(self, inputs: Any) -> Any:
        """What `predict` gives for data."""
        raise NotImplementedError

    def predict_step(self, *arguments: Any) -> Any:
        return backend.predict_step(self, self._reconstruction(), arguments)


class _Reconstruction(keras.Model):
    """`owner.reconstruct` as a model, with the variables of its owner."""

    def __init__(self, owner: Reconstructing):
        super().__init__(name=f"{owner.name}_reconstruction", dtype=owner.dtype_policy)
        self.owner = owner
        self.built = True  # With its owner.

    def call(self, inputs, training=None):
        return self.owner.reconstruct(inputs)
