"""Models whose head needs the labels in training."""

from typing import Any

import keras
from keras import tree

from keras_regularize.layers.heads.labels import labels_withheld
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export


@export
class WithLabels(RegularizedModel):
    r"""Feeds the labels into a model during `fit`, and `None` at inference.

    For layers that need the label in training, such as `kr.layers.ArcFace`: the model takes the labels as its
    last input, an optional one,

    $$f(x, y)\ \text{in training}, \qquad f(x, \mathrm{None})\ \text{in evaluate, predict and export.}$$

    Losses and metrics see the same labels as usual. Attacks and other wrappers that predict beside the loss
    see the model without labels.

    Args:
        model: A functional model with the inputs `[x…, labels]` (a list), the last made by
            `keras.Input(shape, optional=True)`, or a wrapper around one.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If the model has no optional last input, or `fit` gets no labels.

    Cost: none beyond the model's own.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class Head(keras.layers.Layer):
        "Lowers the logit of the label by a margin in training."

        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, inputs):
            features, labels = inputs
            logits = self.dense(features)
            return logits if labels is None else logits - 0.5 * keras.ops.one_hot(labels, 3)


    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    model = kr.models.WithLabels(keras.Model([x, labels], Head()([x, labels])))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((6, 4)), np.arange(6) % 3, verbose=0)
    model.predict(np.ones((2, 4)), verbose=0)
    ```

    Reference: None; the mechanism for heads such as `kr.layers.ArcFace`.
    """

    predicts_itself = True

    def __init__(self, model: keras.Model, **kwargs: Any):
        super().__init__(model, **kwargs)
        base = self.innermost
        inputs = getattr(base, "inputs", None) or []
        is_list = isinstance(getattr(base, "input", None), (list, tuple))
        if not is_list or len(inputs) < 2 or not _is_optional(base):
            raise ValueError(
                "`WithLabels` needs a functional model with a list of inputs, the last of them "
                "`keras.Input(…, optional=True)` for the labels. Received a model with "
                f"{len(inputs)} inputs: {[getattr(t, 'name', t) for t in inputs]}"
            )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        leaves = tree.flatten(inputs)
        if len(leaves) == len(self.innermost.inputs):
            return self.model(leaves, training=training)
        with labels_withheld():
            return self.model([*leaves, None], training=training)

    def compute_output_spec(self, inputs, training=None, mask=None):
        leaves, specs = tree.flatten(inputs), self.innermost.inputs
        # With labels, which no shape depends on: Keras has no symbolic call without an optional input.
        labels = [keras.KerasTensor(s.shape, s.dtype) for s in specs[len(leaves) :]]
        return self.model([*leaves, *labels], training=training)

    def training_inputs(self, batch):
        return [*tree.flatten(super().training_inputs(batch)), batch.y]

    def symbolic_inputs(self):
        inputs = super().symbolic_inputs()[:-1]
        return inputs[0] if len(inputs) == 1 else inputs

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError("`WithLabels` feeds the labels in training. Received: y=None")


def _is_optional(model):
    return any(
        isinstance(layer, keras.layers.InputLayer) and layer.optional
        for layer in model.layers
        if layer.output is model.inputs[-1]
    )
