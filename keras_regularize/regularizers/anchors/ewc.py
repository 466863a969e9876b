"""Elastic weight consolidation: L2 to earlier weights, stronger where they matter."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers.anchors._reference import checked_array, difference
from keras_regularize.validation import check_number


@export
class EWC(Configured, keras.regularizers.Regularizer):
    r"""Holds the weights that an earlier task depends on, and leaves the others free to learn the next one.

    $$\frac{\lambda}{2} \sum_i F_i\, (w_i - w^\ast_i)^2$$

    with the weights $w^\ast$ learnt on the earlier task and their importance $F$, the diagonal of the Fisher
    information there, from `kr.analysis.fisher_diagonal`. It is the second-order expansion of the earlier
    task's loss around $w^\ast$. Set it on the trained model with `kr.regularizers.attach`, whose function sees
    each variable. Unit importance is `L2ToReference` with half the factor. For large models
    `kr.models.WeightPenalty(model, penalty, anchors="weighted")` keeps both arrays among the weights.

    Args:
        reference: $w^\ast$, an array of the weight's shape.
        importance: $F \ge 0$, an array of the same shape.
        factor: $\lambda \ge 0$. Fisher information of a well-trained network is small; factors of 1e2 to 1e4
            are usual.

    Input: a weight of the shape of the reference. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or shapes differ.

    Cost: one pass over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fisher = kr.analysis.fisher_diagonal(model, np.ones((5, 4)), np.arange(5) % 3)
    importance = dict(zip((v.path for v in model.trainable_variables), fisher))
    kr.regularizers.attach(
        model, lambda v: kr.regularizers.EWC(v.value, importance[v.path], factor=100.0)
    )
    ```

    Reference: James Kirkpatrick and others, *Overcoming catastrophic forgetting in neural networks*, PNAS 2017,
    arXiv:1612.00796.
    """

    def __init__(self, reference: Any, importance: Any, factor: float = 1.0):
        self.reference = checked_array("reference", reference)
        self.importance = checked_array("importance", importance)
        if self.importance.shape != self.reference.shape:
            raise ValueError(
                "`importance` must have the shape of the reference. Received: importance of shape "
                f"{self.importance.shape} and reference of shape {self.reference.shape}"
            )
        if (self.importance < 0).any():
            raise ValueError("`importance` must not be negative. Received: negative entries")
        self.factor = check_number("factor", factor, minimum=0)
        self._roots = np.sqrt(self.importance)

    def __call__(self, x: Any) -> Any:
        moved = difference(x, self.reference)
        roots = ops.convert_to_tensor(self._roots, dtype=moved.dtype)
        return 0.5 * self.factor * ops.sum(ops.square(roots * moved))
