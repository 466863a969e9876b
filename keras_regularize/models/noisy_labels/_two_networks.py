"""The base of the models in which two networks learn from each other."""

import contextlib
import contextvars
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff.compiled_losses import per_sample
from keras_regularize.autodiff.functional import resolve_weights
from keras_regularize.configuration import with_arguments
from keras_regularize.models.regularized_model import RegularizedModel

# Per thread, as replicas on TensorFlow are threads that wait for each other in the middle of a pass.
_SEEN: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar(
    "outputs of both networks", default=None
)


class TwoNetworks(RegularizedModel):
    """Holds two networks, `model` and `model_b`, and predicts the mean of their outputs."""

    predicts_itself = True

    def __init__(self, model_a: keras.Model, model_b: keras.Model, **kwargs: Any):
        for name, model in (("model_a", model_a), ("model_b", model_b)):
            if not isinstance(model, keras.Model) or isinstance(model, RegularizedModel):
                raise ValueError(
                    f"`{name}` must be a plain `keras.Model`; wrappers go around `{type(self).__name__}`. "
                    f"Received: {name}={model!r}"
                )
        if model_a is model_b:
            raise ValueError(
                f"`{type(self).__name__}` needs two networks with weights of their own. "
                f"Received the same one twice: {model_a!r}"
            )
        super().__init__(model_a, **kwargs)
        self.model_b = model_b

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        both = [model(inputs, training=training) for model in (self.model, self.model_b)]
        shapes = [tree.map_structure(lambda x: tuple(x.shape), outputs) for outputs in both]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`{type(self).__name__}` needs two networks whose outputs have equal shapes. "
                f"Received: {shapes[0]} and {shapes[1]}"
            )
        if (seen := _SEEN.get()) is not None:
            seen.append(both)
        return tree.map_structure(lambda a, b: (a + ops.cast(b, a.dtype)) / 2, *both)

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError(f"`{type(self).__name__}` needs labels `y`. Received: y=None")

    def get_config(self) -> dict[str, Any]:
        # Two networks in the place of the one that `RegularizedModel` takes.
        serialize = keras.saving.serialize_keras_object
        config = keras.Model.get_config(self)
        config |= {"model_a": serialize(self.model), "model_b": serialize(self.model_b)}
        return with_arguments(self, config)


@contextlib.contextmanager
def outputs_of_both():
    """Lists what the networks of a `TwoNetworks` give out in the passes inside: a pair for each pass."""
    seen: list[Any] = []
    token = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(token)


def labels_and_weights(batch, forward, outputs, rescale=False):
    """Labels, and weights `(batch,)` that are 0 for the unlabelled rows of semi-supervised models.

    With `rescale`, the weights turn a mean over all rows into the mean over labelled ones.
    """
    weights = resolve_weights(batch, outputs)
    y, weights = forward.model.mask_unlabelled(batch.y, outputs, weights, rescale)
    if weights is None:
        weights = ops.ones((ops.shape(tree.flatten(outputs)[0])[0],))
    return y, per_sample(ops.cast(weights, "float32")) * batch.loss_weight
