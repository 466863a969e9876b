"""Features far from their nearest neighbours: an estimate of their entropy."""

from typing import Any

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import mean, unit_vectors
from keras_regularize.ops.points import lengths, pair_squares, same_row
from keras_regularize.registration import export
from keras_regularize.regularizers.features._feature_regularizer import FeatureRegularizer
from keras_regularize.validation import check_number


@export
class KoLeo(FeatureRegularizer):
    r"""Pushes every feature away from its nearest neighbour in the batch, by the Kozachenko-Leonenko entropy.

    $$-\lambda\, \frac1B \sum_i \log\Big(\min_{j \ne i} \|u_i - u_j\| + \epsilon\Big), \qquad
      u_i = z_i / \|z_i\|,$$

    up to constants an estimate of minus the differential entropy of the features, so that they become uniform on
    the sphere. Which one is nearest has no gradient; both ends of the distance have. Duplicates cost $-\lambda
    \log \epsilon$ and have gradient 0.

    As an activity regularizer it returns the value times the batch size, because Keras divides activity losses by
    the batch size, and the value itself before Keras 3.14, which did not. A batch of one has value 0.

    On several TensorFlow replicas, or in several processes of PyTorch, the batch is the share that one of them
    sees, and their values are averaged: a layer may be called in a branch or a loop, where they cannot wait for
    each other. Under `keras.distribution` on JAX it is the whole batch.

    Args:
        factor: $\lambda \ge 0$.
        normalized: Whether features are divided by their norms; `False` takes them as they are.
        epsilon: $\epsilon > 0$, added to distances.

    Input: the outputs `(batch, …)` of a layer, flattened to `(batch, dim)`. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or features have no axis beside the batch.

    Cost: one matrix product $B^2 D$ without gradient, and a pass over the features.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(32, activity_regularizer=kr.regularizers.KoLeo(0.1))
    ```

    Reference: Alexandre Sablayrolles, Matthijs Douze, Cordelia Schmid and Hervé Jégou, *Spreading vectors for
    similarity search*, ICLR 2019, arXiv:1806.03198; as in Maxime Oquab and others, *DINOv2: Learning Robust Visual
    Features without Supervision*, 2023, arXiv:2304.07193.
    """

    def __init__(self, factor: float = 0.1, normalized: bool = True, epsilon: float = 1e-8):
        self.factor = check_number("factor", factor, minimum=0)
        self.normalized = bool(normalized)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def penalty(self, rows: Any) -> Any:
        if self.normalized:
            rows = unit_vectors(rows)
        squares = pair_squares(ops.stop_gradient(rows))[0]
        _, nearest = backend.largest(ops.where(same_row(rows), -float("inf"), -squares))
        # Not the square of the matrix, in which nothing is left of short distances.
        distances = lengths(rows - ops.take(rows, nearest, axis=0))
        value = -self.factor * mean(ops.log(distances + self.epsilon))
        return ops.where(ops.shape(rows)[0] > 1, value, 0.0 * ops.sum(rows))
