"""Neural collapse as a regularizer: a layer that holds the class centres."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.losses import (
    neural_collapse_between,
    neural_collapse_within,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class NeuralCollapse(Configured, keras.layers.Layer):
    r"""Draws the features of each class to a centre of its own and spreads the centres, rare classes too.

    The layer hands the features on as they are. In training it adds to the loss, for learnt centres $C_k$ of the
    $K$ classes,

    $$\lambda_1\, \frac1K \sum_{k\ \text{in the batch}} \frac{1}{n_k} \sum_{i:\, y_i = k} \|x_i - C_k\|^2
      \;-\; \lambda_2\, \frac1K \sum_k \min_{j \ne k} \angle\,(C_k - \bar C,\ C_j - \bar C),$$

    see `kr.losses.neural_collapse_within` and `kr.losses.neural_collapse_between`. Long training with balanced
    classes ends in such a state by itself: the features of a class collapse to their mean and the means form a
    simplex. With a long tail the centres of rare classes end up close together, which this prevents. Put the
    layer before the classifier; it goes with any loss.

    The centres start normally distributed and are trained with the model. The first part grows with the square
    of the features: normalise them, or lower its weight. Leave the centres out of weight decay.

    The authors train the centres by a plain SGD of their own at 0.5, with gradients divided by $\lambda_1$: they
    follow the first part with the weight 1 and the second with $\lambda_2 / \lambda_1$. Here the gradients of the
    centres, not of the features, are multiplied likewise and go to the model's optimizer; with SGD at a rate $r$
    the centres move as theirs do if the multiplier is $0.5 / (r \lambda_1)$. An optimizer that divides by the size
    of gradients, such as Adam, takes the factor out again: only the ratio of the two parts counts there.

    Args:
        num_classes: $K \ge 2$.
        within_factor: $\lambda_1 \ge 0$.
        between_factor: $\lambda_2 \ge 0$.
        center_learning_rate_multiplier: What the gradients of the centres are multiplied by, above 0; by default
            $1 / \lambda_1$, or 1 if $\lambda_1 = 0$.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, and labels class ids `(batch,)` or
    `(batch, 1)`, or rows `(batch, num_classes)`, of which the largest entry counts. Samples with the id -1 are
    left out. Without labels, `[features, None]` or the features alone. Output: the features.

    Raises:
        ValueError: If an argument is out of its range, or in training without labels.

    Cost: a few passes over the features, and the angles between centres, one matrix product.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = keras.Input((8,))
    labels = keras.Input((), dtype="int32", optional=True)
    features = keras.layers.Dense(16, activation="relu")(x)
    features = kr.layers.NeuralCollapse(3, within_factor=0.01)([features, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], keras.layers.Dense(3)(features)))

    y = np.repeat([0, 1, 2], [50, 10, 4])
    model.compile("adam", kr.losses.LogitAdjusted(np.bincount(y)))
    model.fit(np.random.normal(size=(64, 8)), y, verbose=0)
    ```

    Reference: Xuantong Liu, Jianfeng Zhang, Tianyang Hu, He Cao, Lujia Pan and Yuan Yao, *Inducing Neural Collapse
    in Deep Long-tailed Learning*, AISTATS 2023, arXiv:2302.12453.
    """

    def __init__(
        self,
        num_classes: int,
        within_factor: float = 0.01,
        between_factor: float = 0.1,
        center_learning_rate_multiplier: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.within_factor = check_number("within_factor", within_factor, minimum=0)
        self.between_factor = check_number("between_factor", between_factor, minimum=0)
        self.center_learning_rate_multiplier = check_number(
            "center_learning_rate_multiplier",
            center_learning_rate_multiplier,
            above=0,
            optional=True,
        )
        self.autocast = False  # Labels stay exact, and distances are computed in full precision.

    def build(self, input_shape: Any) -> None:
        self.centers = self.add_weight(
            (self.num_classes, features_shape(input_shape)[-1]),
            keras.initializers.RandomNormal(stddev=1.0),
            autocast=False,
            name="centers",
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, labels = features_and_labels(self, inputs, training, self.num_classes)
        if labels is not None:
            centers = ops.convert_to_tensor(self.centers)
            centers = straight_through(centers, self._multiplier() * centers)
            within = neural_collapse_within(features, labels, centers)
            between = neural_collapse_between(centers)
            add_float_loss(self, self.within_factor * within + self.between_factor * between)
        return ops.cast(features, self.compute_dtype)

    def _multiplier(self):
        if self.center_learning_rate_multiplier is not None:
            return self.center_learning_rate_multiplier
        return 1.0 / self.within_factor if self.within_factor > 0 else 1.0

    def compute_output_shape(self, input_shape: Any) -> Any:
        return features_shape(input_shape)
