"""The distance of two samples in the eyes of a network."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import Forward
from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import mean, safe_abs, upcast
from keras_regularize.registration import export
from keras_regularize.utils.frozen_models import (
    deserialize_with_weights,
    serialize_with_weights,
)
from keras_regularize.validation import check_choice, check_number, compatible


@export
class Perceptual(Loss):
    r"""Compares outputs and targets by what a trained network sees in them.

    $$\ell = \sum_l w_l\, \operatorname{mean}\, \big| \phi_l(\hat y) - \phi_l(y) \big|,$$

    with the feature maps $\phi_l$ of a network that is not trained along, such as a classifier of images or of
    sounds. What differs only in details that the network does not look at costs little; averages, which squared
    error likes best, cost much. Features are those of inference.

    A saved loss contains the weights of the network, as text in the config of the file: compile with another loss
    before saving where that is too much.

    Args:
        feature_extractor: A built `keras.Model` of outputs and targets.
        layers: Names of its layers whose outputs are compared; `None` for the outputs of the network.
        weights: $w_l \ge 0$, one for each; `None` for 1.
        distance: `"mae"`, or `"mse"` for squares.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Inputs of the network, `(batch, …)`, as it takes them: scaled as in its training.
        y_pred: Inputs of the same shape.

    Returns:
        With `reduction="none"` values `(batch,)`, else a scalar.

    Raises:
        ValueError: If `feature_extractor` is no built model, a layer is none of its, there is not a weight for
            each, `distance` is none of the two, or the shapes do not fit.

    Cost: two passes of the network, one of them backward.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    layers = [keras.layers.Conv2D(4, 3, activation="relu", name="edges"), keras.layers.Conv2D(4, 3, name="parts")]
    classifier = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    loss = kr.losses.Perceptual(classifier, layers=["edges", "parts"], weights=[1.0, 0.5])
    loss(np.ones((2, 8, 8, 1)), np.zeros((2, 8, 8, 1)))
    ```

    Reference: Justin Johnson, Alexandre Alahi and Li Fei-Fei, *Perceptual Losses for Real-Time Style Transfer and
    Super-Resolution*, ECCV 2016, arXiv:1603.08155.
    """

    def __init__(
        self,
        feature_extractor: keras.Model,
        layers: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        distance: str = "mae",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "perceptual",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not isinstance(feature_extractor, keras.Model) or not feature_extractor.built:
            raise ValueError(
                "`feature_extractor` must be a built `keras.Model`. "
                f"Received: feature_extractor={feature_extractor!r}"
            )
        self.feature_extractor = feature_extractor
        self.layers = None if layers is None else list(layers)
        self._features = feature_extractor
        if self.layers is not None:
            known = [layer.name for layer in feature_extractor.layers]
            if not self.layers or not set(self.layers) <= set(known):
                raise ValueError(
                    f"`layers` must be names of layers of `feature_extractor`, {known}. "
                    f"Received: layers={layers}"
                )
            self._features = keras.Model(
                feature_extractor.inputs,
                [feature_extractor.get_layer(name).output for name in self.layers],
            )
        self.weights = (
            None
            if weights is None
            else [check_number("weights", weight, minimum=0) for weight in weights]
        )
        self._check_count(len(self.layers or self.weights or [None]))
        self.distance = check_choice("distance", distance, ("mae", "mse"))

    def _check_count(self, count):
        if self.weights is not None and len(self.weights) != count:
            raise ValueError(
                f"`weights` must have an entry for each of the {count} feature maps. "
                f"Received: weights={self.weights}"
            )

    def call(self, y_true, y_pred):
        y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
        if not compatible(y_true.shape, y_pred.shape):
            raise ValueError(
                "Expected outputs and targets of one shape. "
                f"Received: y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        # Of weights as they are: they have no gradient.
        forward = Forward(self._features)
        targets, predicted = (tree.flatten(forward(x)) for x in (y_true, y_pred))
        self._check_count(len(predicted))
        total = 0.0
        for weight, target, features in zip(
            self.weights or [1.0] * len(predicted), targets, predicted
        ):
            error = upcast(features) - upcast(ops.stop_gradient(target))
            error = safe_abs(error) if self.distance == "mae" else ops.square(error)
            total = total + weight * mean(error, axis=tuple(range(1, len(error.shape))))
        return total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_extractor": serialize_with_weights(self.feature_extractor),
            "layers": self.layers,
            "weights": self.weights,
            "distance": self.distance,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "Perceptual":
        extractor = deserialize_with_weights(config["feature_extractor"], custom_objects)
        return cls(**{**config, "feature_extractor": extractor})
