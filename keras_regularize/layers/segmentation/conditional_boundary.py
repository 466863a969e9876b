"""Features at the boundaries of masks, pulled to those of the same class beside them."""

import itertools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.numerics import masked_mean, maximum, mean, unit_vectors, upcast
from keras_regularize.ops.neighbours import boxed, moved
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number, compatible


@export
class ConditionalBoundary(Configured, keras.layers.Layer):
    r"""Wraps the last layer of a segmentation model, and trains features near boundaries to tell the sides apart.

    With the features $f_i$ of the pixels, their classes $y_i$, the pixels $N_i$ of a window around $i$ without $i$
    itself, and the mean $c_i$ of the features of those in $N_i$ that are of the class $y_i$, $\hat c_i$ of those
    that are also classified so, the layer adds to the loss in training, for pixels $i$ near a boundary,

    $$\lambda_1 \operatorname*{mean}_{i,\, j \in N_i} \big(\cos(f_i, f_j) - [y_i = y_j]\big)^2
      - \lambda_2 \operatorname*{mean}_i \big(\log p_{y_i}(c_i) + \log p_{y_i}(\hat c_i)\big)
      + \lambda_3 \operatorname*{mean}_i \lVert f_i - \hat c_i \rVert^2 / d .$$

    The first mean is over the pixels of an image whose class is not 0 and whose window is within it, then over
    images. The others are over the pixels of a class that have such neighbours, the last over those classified
    right alone, then over classes. The probabilities $p$ are those of the classifier, whose weights they do not
    train, and $\hat c_i$ is a constant of the last mean. Weights of samples do not reach these terms.

    Args:
        classifier: The layer from features to logits, such as `keras.layers.Conv2D(classes, 1)`. Its outputs are
            those of this layer.
        kernel_size: Side of the window $N_i$, odd and at least 3.
        border: How near pixels are to one of another class, in diagonals of the image, at least a pixel.
        context_weight: $\lambda_1 \ge 0$.
        classification_weight: $\lambda_2 \ge 0$.
        pull_weight: $\lambda_3 \ge 0$.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`: features `(batch, height, width, d)` with known sizes and class ids
    `(batch, height, width)` or `(batch, height, width, 1)` of the same size, negative where there is no label; or
    the features alone at inference. Output: the classifier's, in the dtype of this layer: under mixed
    precision give `dtype="float32"` here too for logits that have it.

    Raises:
        ValueError: If an argument is out of its range, labels are missing in training or no classes, or shapes do
            not fit.

    Cost: `kernel_size**2` passes over the features, and the classifier twice more.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, labels = keras.Input((16, 16, 3)), keras.Input((16, 16), dtype="int32", optional=True)
    features = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    head = kr.layers.ConditionalBoundary(keras.layers.Conv2D(2, 1))
    model = kr.models.WithLabels(keras.Model([x, labels], head([features, labels])))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(4, 16, 16, 3)), np.arange(1024).reshape(4, 16, 16) // 8 % 2, verbose=0)
    ```

    Reference: Dongyue Wu and others, *Conditional Boundary Loss for Semantic Segmentation*, IEEE Transactions on
    Image Processing 2023.
    """

    def __init__(
        self,
        classifier: keras.layers.Layer,
        kernel_size: int = 5,
        border: float = 0.02,
        context_weight: float = 1.0,
        classification_weight: float = 0.2,
        pull_weight: float = 2.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.classifier = classifier
        self.kernel_size = check_integer("kernel_size", kernel_size, minimum=3)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}")
        self.border = check_number("border", border, above=0)
        self.context_weight = check_number("context_weight", context_weight, minimum=0)
        self.classification_weight = check_number(
            "classification_weight", classification_weight, minimum=0
        )
        self.pull_weight = check_number("pull_weight", pull_weight, minimum=0)

    def build(self, input_shape: Any) -> None:
        if not self.classifier.built:
            self.classifier.build(features_shape(input_shape))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        logits = self.classifier(features)
        _, labels = features_and_labels(self, inputs, training, logits.shape[-1])
        if labels is not None:
            labels = ops.convert_to_tensor(labels)
            if len(labels.shape) == 4 and labels.shape[-1] == 1:
                labels = labels[..., 0]
            shape = tuple(features.shape)
            if len(shape) != 4 or None in shape[1:] or not compatible(labels.shape, shape[:-1]):
                raise ValueError(
                    "Expected features (batch, height, width, d) of known sizes and class ids (batch, height, "
                    f"width). Received: features.shape={shape}, labels.shape={tuple(labels.shape)}"
                )
            add_float_loss(self, self._terms(features, logits, ops.cast(labels, "int32")))
        return ops.cast(logits, self.compute_dtype)

    def _terms(self, features, logits, ids):
        """The sum of the three terms; arrays are `(batch, channels, height, width)`."""
        x, y = ops.transpose(upcast(features), (0, 3, 1, 2)), ids[:, None]
        right = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32")[:, None], y)
        border = self._near_border(y)
        unit, hit = unit_vectors(x, axis=1), ops.cast(right, x.dtype)
        reach = self.kernel_size // 2
        window = [s for s in itertools.product(range(-reach, reach + 1), repeat=2) if any(s)]
        context, sums, counts = 0.0, [0.0, 0.0], [0.0, 0.0]
        for steps in window:
            same = ops.cast(ops.equal(moved(y, steps, fill=-1), y), x.dtype)
            cosine = ops.sum(unit * moved(unit, steps), axis=1, keepdims=True)
            context = context + ops.square(cosine - same) / len(window)
            beside = moved(x, steps)
            for i, weight in enumerate((same, same * moved(hit, steps))):
                sums[i], counts[i] = sums[i] + weight * beside, counts[i] + weight
        centres = [total / maximum(count, 1.0) for total, count in zip(sums, counts)]

        inner = np.zeros((1, 1, *x.shape[2:]), bool)
        inner[..., reach : x.shape[2] - reach, reach : x.shape[3] - reach] = True
        counted = ops.logical_and(ops.logical_and(border, y > 0), ops.convert_to_tensor(inner))
        axes = (1, 2, 3)
        context = masked_mean(masked_mean(context, counted, axes), ops.any(counted, axis=axes))

        known, sure = (ops.logical_and(border, count > 0) for count in counts)
        rows = ops.one_hot(ids, logits.shape[-1], axis=1, dtype=x.dtype)
        distance = mean(ops.square(x - ops.stop_gradient(centres[1])), axis=1, keepdims=True)
        pulled = ops.logical_and(sure, right)
        axes = (0, 2, 3)
        of_classes = [
            masked_mean(values * ops.ones_like(rows), rows * ops.cast(mask, x.dtype), axes)
            for values, mask in (
                (self._crossentropy(centres[0], rows), known),
                (self._crossentropy(centres[1], rows), sure),
                (distance, pulled),
            )
        ]
        there = ops.any(ops.logical_and(rows > 0, pulled), axis=axes)
        total = self.classification_weight * (of_classes[0] + of_classes[1])
        total = total + self.pull_weight * of_classes[2]
        return self.context_weight * context + masked_mean(total, there)

    def _near_border(self, y):
        """Pixels with a label and one of another class near them."""
        reach = max(1, round(self.border * math.hypot(*y.shape[2:])))
        far = 2**30
        least = boxed(ops.where(y < 0, far, y), reach, ops.minimum, far)
        most = boxed(y, reach, ops.maximum, -1)
        return ops.logical_and(y >= 0, ops.logical_and(most >= 0, ops.not_equal(least, most)))

    def _crossentropy(self, centres, rows):
        """That of the classifier as it is: `(batch, 1, height, width)`."""
        weights = [
            [ops.stop_gradient(v.value) for v in variables]
            for variables in (
                self.classifier.trainable_variables,
                self.classifier.non_trainable_variables,
            )
        ]
        logits, _ = self.classifier.stateless_call(*weights, ops.transpose(centres, (0, 2, 3, 1)))
        log_p = ops.transpose(ops.log_softmax(upcast(logits), axis=-1), (0, 3, 1, 2))
        return -ops.sum(ops.cast(log_p, rows.dtype) * rows, axis=1, keepdims=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.classifier.compute_output_shape(features_shape(input_shape))
