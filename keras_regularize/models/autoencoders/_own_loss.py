"""What models with a loss of their own, which predict reconstructions, have in common."""

from typing import Any

import keras

from keras_regularize.autodiff import backend
from keras_regularize.models.step.seeds import SavedSeeds


class OwnLoss(SavedSeeds, keras.Model):
    """A model whose `compute_loss` needs no compiled loss, and whose `predict` is its `reconstruct`."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        reconstruction = _Reconstruction(self)
        self._reconstruction = lambda: reconstruction  # Not tracked: it has the same weights.

    def reconstruct(self, inputs: Any) -> Any:
        """What `predict` gives for data."""
        raise NotImplementedError

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`, without a loss: the model has its own."""
        if loss is not None:
            raise ValueError(
                f"`{type(self).__name__}` has a loss of its own, `compile` takes none. Received: loss={loss!r}"
            )
        super().compile(optimizer, None, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        with backend.keep_weights_on_error(self):
            return super().fit(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with backend.keep_weights_on_error(self):
            return super().train_on_batch(*args, **kwargs)

    def predict_step(self, *arguments: Any) -> Any:
        return backend.predict_step(self, self._reconstruction(), arguments)


class _Reconstruction(keras.Model):
    """`owner.reconstruct` as a model, with the variables of its owner."""

    def __init__(self, owner: OwnLoss):
        super().__init__(name=f"{owner.name}_reconstruction", dtype=owner.dtype_policy)
        self.owner = owner
        self.built = True  # With its owner.

    def call(self, inputs, training=None):
        return self.owner.reconstruct(inputs)
