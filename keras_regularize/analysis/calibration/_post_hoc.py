"""What maps of a trained classifier's outputs share."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.analysis.calibration._samples import (
    ROUNDED,
    TINY,
    class_samples,
    to_logits,
)
from keras_regularize.models import RegularizedModel
from keras_regularize.scores import gives_logits, has_labels, wrapped_models


class PostHoc:
    """A map of the outputs of a model, or of logits if there is none, that is fitted on data of its own."""

    def __init__(self, model: Any = None, from_logits: bool | None = None):
        if model is not None and not isinstance(model, keras.Model):
            raise ValueError(f"`model` must be a Keras model or None. Received: model={model!r}")
        self.model = model
        self.from_logits = from_logits

    def _fit(self, x, y, sample_weight, batch_size):
        """Labels as rows `(n, classes)`, logits `(n, classes)` or `(n, 1)`, and weights `(n,)` of mean 1."""
        if self.model is None:
            self._logits = self.from_logits is not False
        else:
            self._logits = gives_logits(self.model, self.from_logits)
        scores = self._scores(x, batch_size)
        if sample_weight is None:
            rows, z = class_samples(y, scores)
            return rows, z, np.ones(len(z))
        weight, y, shape = np.asarray(sample_weight, "float64"), np.asarray(y), scores.shape[:-1]
        if weight.shape in (shape[:1], (*shape[:1], 1)):
            weight = np.broadcast_to(weight.reshape(-1, *[1] * (len(shape) - 1)), shape)
        if weight.shape != shape or not (weight >= 0).all() or y.shape[: len(shape)] != shape:
            raise ValueError(
                "Expected weights of at least 0, (n,) or one for each position, and as many labels. Received: "
                f"sample_weight.shape={np.shape(sample_weight)}, y.shape={y.shape}, "
                f"scores of shape {scores.shape}"
            )
        counted = weight > 0  # A label that does not count may be none.
        rows, z = class_samples(y[counted], scores[counted])
        return rows, z, weight[counted] / weight[counted].mean()

    def _scores(self, x, batch_size):
        if self.model is not None:
            x = self.model.predict(x, batch_size=batch_size, verbose=0)
            if not isinstance(x, np.ndarray):
                raise ValueError(
                    "Expected a model with one output, scores of classes. Received: a model with "
                    f"{len(tree.flatten(x))} outputs. Pass a model of one of them"
                )
            if x.ndim > 1 and has_labels(x, self.model):
                raise ValueError(
                    "Expected classes of which one is right. Received: a model of several labels, by its binary "
                    "loss or its sigmoid. Pass the scores of one label"
                )
        return to_logits(x, self._logits)

    def _check_fitted(self, attribute):
        if not hasattr(self, attribute):
            raise ValueError(f"`{type(self).__name__}` has to be fitted first: call `fit`.")
        return getattr(self, attribute)


class LogitScaling(PostHoc):
    """A map of logits that is a layer: a factor and an offset, one or one per class."""

    _calibrated: keras.Model

    @property
    def calibrated_model(self) -> keras.Model:
        """A functional model around the given one that gives out calibrated probabilities."""
        return self._check_fitted("_calibrated")

    def predict(self, x: Any, batch_size: int | None = None) -> np.ndarray:
        """Calibrated probabilities, `calibrated_model.predict`.

        Args:
            x: Inputs of the model; without a model, logits `(n, classes)`.
            batch_size: Number of samples at once, as in `keras.Model.predict`.

        Returns:
            Probabilities of the shape of the model's outputs.
        """
        return self.calibrated_model.predict(x, batch_size=batch_size, verbose=0)

    def _build(self, x, make_layer):
        """Puts a layer of a given dtype between the logits and the probabilities."""
        if self.model is None:
            inputs = outputs = keras.Input(np.shape(x)[1:] or (1,))
        else:
            model = _predicting(self.model)
            inputs = _symbolic_inputs(model, x)
            outputs = model(inputs)
        if len(outputs.shape) == 1:
            outputs = ops.expand_dims(outputs, -1)
        dtype = keras.backend.result_type(outputs.dtype, "float32")
        single, outputs = outputs.shape[-1] == 1, ops.cast(outputs, dtype)
        if not self._logits:
            p, outputs = outputs, ops.log(ops.maximum(outputs, TINY))
            if single:
                outputs = outputs - ops.log(ops.maximum(1.0 - p, ROUNDED))
        activation = keras.layers.Activation("sigmoid" if single else "softmax", dtype=dtype)
        self._calibrated = keras.Model(inputs, activation(make_layer(dtype)(outputs)))


def _predicting(model):
    """The model inside of wrappers that only train it: a saved file does without them."""
    while isinstance(model, RegularizedModel) and type(model).call is RegularizedModel.call:
        model = model.model
    return model


def _symbolic_inputs(model, x):
    """New symbolic inputs like those of a model; like data, if the model has none that are fixed."""
    inner = wrapped_models(model)[-1]
    if not getattr(inner, "inputs", None):
        return tree.map_structure(_like, x)
    if inner is not model:
        return model.symbolic_inputs()  # A wrapper that predicts in its own way.
    inputs = inner.inputs[0] if isinstance(inner, keras.Sequential) else inner.input
    return tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), inputs
    )


def _like(x):
    if not hasattr(x, "shape"):
        raise ValueError(
            "A model without inputs of its own, such as a subclassed one, needs arrays to be fitted on. Received: "
            f"{type(x).__name__}"
        )
    dtype = keras.backend.standardize_dtype(x.dtype)
    return keras.Input(x.shape[1:], dtype=None if "float" in dtype else dtype)
