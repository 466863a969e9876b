"""The center loss as a layer that holds the centres."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.losses import center_loss, center_update
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class CenterLoss(Configured, keras.layers.Layer):
    r"""Draws the features of a classifier to the centres of their classes, which follow the features.

    The layer hands the features on as they are. In training it adds to the loss

    $$\lambda\, \frac1B \sum_i \tfrac12\, \|x_i - c_{y_i}\|^2$$

    and moves the centres $c$ by `kr.losses.center_update`; they are no trained weights. Alone it would collapse:
    put it before the classifier, which keeps classes apart. On several TensorFlow replicas, or in training in
    several processes of PyTorch, the samples of all of them move the centres.

    Args:
        num_classes: Number of classes, at least 1.
        factor: $\lambda \ge 0$.
        rate: How far centres move in a step, between 0 and 1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, and labels class ids `(batch,)` or
    `(batch, 1)`, or rows `(batch, num_classes)`, of which the largest entry counts. Samples with the id -1 are
    left out. Without labels, `[features, None]` or the features alone. Output: the features.

    Raises:
        ValueError: If an argument is out of its range, or in training without labels.

    Cost: a few passes over the features, and a product of labels and features.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, labels = keras.Input((8,)), keras.Input((), dtype="int32", optional=True)
    features = keras.layers.Dense(16, activation="relu")(x)
    features = kr.layers.CenterLoss(3, factor=0.01)([features, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], keras.layers.Dense(3)(features)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64), verbose=0)
    ```

    Reference: Yandong Wen, Kaipeng Zhang, Zhifeng Li and Yu Qiao, *A Discriminative Feature Learning Approach for
    Deep Face Recognition*, ECCV 2016.
    """

    def __init__(self, num_classes: int, factor: float = 0.003, rate: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = check_integer("num_classes", num_classes, minimum=1)
        self.factor = check_number("factor", factor, minimum=0)
        self.rate = check_number("rate", rate, minimum=0, maximum=1)
        self.autocast = False  # Labels stay exact, and distances are computed in full precision.

    def build(self, input_shape: Any) -> None:
        self.centers = self.add_weight(
            (self.num_classes, features_shape(input_shape)[-1]),
            "zeros",
            trainable=False,
            autocast=False,
            name="centers",
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, labels = features_and_labels(self, inputs, training, self.num_classes)
        if labels is not None:
            centers = ops.stop_gradient(ops.convert_to_tensor(self.centers))
            add_float_loss(self, self.factor * mean(center_loss(features, labels, centers)))
            features_of_all, labels_of_all = backend.gather_over_replicas([features, labels])
            moved = center_update(features_of_all, labels_of_all, centers, self.rate)
            self.centers.assign(ops.cast(moved, centers.dtype))
        return ops.cast(features, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return features_shape(input_shape)
