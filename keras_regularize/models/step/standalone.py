"""What models that are trained by `compute_loss` or a step of their own, and wrap no other, have in common."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.models.step.averages import keep_apart
from keras_regularize.models.step.callbacks import with_own_callbacks
from keras_regularize.models.step.data import refuse_lost_weights
from keras_regularize.models.step.seeds import SavedSeeds
from keras_regularize.numerics import mean


class Standalone(SavedSeeds, keras.Model):
    """A model whose seeds are saved, whose weights survive an error in `fit`, and that may bring callbacks."""

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks of `fit` by which the method acts between epochs."""
        return []

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        _check_weights(keras.Model.fit, args, kwargs)
        args, kwargs = with_own_callbacks(self.training_callbacks(), self, args, kwargs)
        with backend.keep_weights_on_error(self):
            history = super().fit(*args, **kwargs)
        keep_apart(self)
        return history

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        _check_weights(keras.Model.evaluate, args, kwargs)
        return super().evaluate(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with backend.keep_weights_on_error(self):
            return super().train_on_batch(*args, **kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """That of Keras, a number for an empty batch, too."""
        loss = super().compute_loss(*args, **kwargs)
        return ops.sum(loss) if 0 in getattr(loss, "shape", ()) else loss

    def with_penalties(self, loss: Any) -> Any:
        """What `compute_loss` gives out: a mean loss, and the penalties of the model."""
        penalties = [ops.sum(ops.cast(penalty, loss.dtype)) for penalty in self.losses]
        return sum(penalties, loss) / backend.num_replicas()


def _check_weights(method, args, kwargs):
    given = inspect.signature(method).bind(None, *args, **kwargs).arguments
    refuse_lost_weights(given.get("y"), given.get("sample_weight"))
    if isinstance(validation := given.get("validation_data"), (list, tuple)):
        refuse_lost_weights(*keras.utils.unpack_x_y_sample_weight(validation)[1:])


def mean_loss(loss: Any, *given: Any) -> Any:
    """What a loss, or a function of a loss, gives for the samples of this replica: one mean.

    Keras divides that of a `keras.losses.Loss` by the number of replicas, whose gradients it adds.
    """
    value = mean(loss(*given))
    divided = getattr(loss, "reduction", "sum") not in ("sum", "none", None)
    return value * backend.num_replicas() if divided else value


class OwnLoss(Standalone):
    """A model whose `compute_loss` needs no compiled loss."""

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`, without a loss: the model has its own."""
        if loss is not None:
            raise ValueError(
                f"`{type(self).__name__}` has a loss of its own, `compile` takes none. Received: loss={loss!r}"
            )
        super().compile(optimizer, None, *args, **kwargs)
