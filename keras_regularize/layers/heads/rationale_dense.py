"""A linear classifier that keeps the reasons for its decisions alike within a class."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.labels import label_mask
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.losses import rationale_invariance
from keras_regularize.numerics import matmul
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class RationaleDense(Configured, keras.layers.Layer):
    r"""Linear classifier that learns to recognise a class by the same features in every domain.

    A dense layer $z = W^\top x + b$ that adds a loss in training. The contributions $R_{kj} = w_{kj} x_j$ of the
    features to the logits, a sample's rationale, are drawn to a running mean $\bar R_c$ of the class:

    $$\lambda \sum_{c\ \text{in the batch}} \frac{1}{n_c K} \sum_{i:\, y_i = c} \|R_i - \bar R_c\|^2 ,$$

    see `kr.losses.rationale_invariance`. Mix the domains in each batch. `factor=0` is a dense layer.

    Contributions do not depend on the scale of a feature: one that differs much within a class counts less,
    however large it is, where weight decay would prefer it. It is meant for features that are pretrained. In a
    short training the default momentum holds rationales to those of the initial weights; 0.1 follows the weights.

    Under data parallelism each replica takes its own part of the batch; the running means are those of the first.

    Args:
        units: Number of classes $K$.
        momentum: Share of the new value, the opposite of Keras' `momentum`, as in the authors' code:
            $\beta$, of a batch in the running mean, from 0 to 1. The authors search 0.0001 to 0.1.
        factor: $\lambda \ge 0$. The authors search 0.01 to 0.1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, and labels class ids `(batch,)` or
    `(batch, 1)`, or rows `(batch, units)`, of which the largest entry counts. Samples with the id -1 are left out
    of the loss. Without labels, `[features, None]` or the features alone. Output: logits `(batch, units)`.
    Weights: kernel and bias, then the running means `(units, units, features)` and the flags `(units,)` of the
    classes seen, which are not trained.

    Raises:
        ValueError: If an argument is out of its range, or in training without labels.

    Cost: that of a dense layer, a few passes over the running means and two more products of its size.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = keras.Input((8,))
    labels = keras.Input((), dtype="int32", optional=True)
    features = keras.layers.Dense(16, activation="relu")(x)
    logits = kr.layers.RationaleDense(3)([features, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], logits))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(30, 8)), np.arange(30) % 3, verbose=0)
    ```

    Reference: Liang Chen, Yong Zhang, Yibing Song, Anton van den Hengel and Lingqiao Liu, *Domain Generalization
    via Rationale Invariance*, ICCV 2023, arXiv:2308.11158.
    """

    def __init__(self, units: int, momentum: float = 0.001, factor: float = 0.01, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)
        self.factor = check_number("factor", factor, minimum=0)
        self.autocast = False  # Labels stay exact, and the loss is computed in full precision.

    def build(self, input_shape: Any) -> None:
        size = features_shape(input_shape)[-1]
        if size is None:
            raise ValueError(
                "`RationaleDense` needs a known number of features, the last axis. "
                f"Received: input_shape={features_shape(input_shape)}"
            )
        memory = {"trainable": False, "aggregation": "only_first_replica", "autocast": False}
        self.kernel = self.add_weight((size, self.units), name="kernel", autocast=False)
        self.bias = self.add_weight((self.units,), "zeros", name="bias", autocast=False)
        self.bank = self.add_weight((self.units, self.units, size), "zeros", name="bank", **memory)
        self.seen = self.add_weight((self.units,), "zeros", name="seen", **memory)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, labels = features_and_labels(self, inputs, training, self.units)
        x, kernel, bias = (
            ops.cast(value, self.compute_dtype) for value in (features, self.kernel, self.bias)
        )
        logits = matmul(x, kernel) + bias
        if labels is not None:
            loss, bank = rationale_invariance(
                features, labels, self.kernel, self.bank, self.seen, self.momentum
            )
            add_float_loss(self, self.factor * loss)
            present = ops.any(label_mask(labels, logits), axis=0)
            self.bank.assign(bank)
            self.seen.assign(ops.where(present, 1.0, self.seen.value))
        return logits

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*features_shape(input_shape)[:-1], self.units)
