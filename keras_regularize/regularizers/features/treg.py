"""Features with a long minimum spanning tree."""

from typing import Any

from keras import ops

from keras_regularize.numerics import mean
from keras_regularize.ops.points import lengths, tree_edges
from keras_regularize.registration import export
from keras_regularize.regularizers.features._feature_regularizer import FeatureRegularizer
from keras_regularize.validation import check_number


@export
class TREG(FeatureRegularizer):
    r"""Lengthens the minimum spanning tree of a batch of features, near a sphere.

    $$-\gamma\, \frac1B \sum_{(i, j) \in \mathrm{MST}(Z)} \|z_i - z_j\|
      + \lambda\, \frac1B \sum_i (\|z_i\| - 1)^2.$$

    Each edge of the tree repels its two ends; which edges there are has no gradient. Features neither collapse to
    a point nor, as the tree of a subspace is short in a large batch, to a subspace: in a ball it is longest for
    points at equal distances. The second term is the only thing that keeps them from growing, and features are not
    normalized. `losses.TREGS` adds the distance of two views.

    As an activity regularizer it returns the value times the batch size, because Keras divides activity losses by
    the batch size, and the value itself before Keras 3.14, which did not. A batch of one has the second term
    alone.

    On several TensorFlow replicas, or in several processes of PyTorch, the batch is the share that one of them
    sees, and their values are averaged: a layer may be called in a branch or a loop, where they cannot wait for
    each other. Under `keras.distribution` on JAX it is the whole batch, as it is everywhere with `losses.TREGS`.

    Args:
        factor: $\gamma \ge 0$.
        sphere_factor: $\lambda \ge 0$; at most $\gamma$, as the authors found.

    Input: the outputs `(batch, …)` of a layer, flattened to `(batch, dim)`. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or features have no axis beside the batch.

    Cost: one matrix product $B^2 D$ without gradient, $B$ steps of $B$ operations one after the other, and a pass
    over the features.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(32, activity_regularizer=kr.regularizers.TREG())
    ```

    Reference: Julie Mordacq, David Loiseaux, Vicky Kalogeiton and Steve Oudot, *T-REGS: Minimum Spanning Tree
    Regularization for Self-Supervised Learning*, NeurIPS 2025, arXiv:2510.23484.
    """

    def __init__(self, factor: float = 0.2, sphere_factor: float = 8e-4):
        self.factor = check_number("factor", factor, minimum=0)
        self.sphere_factor = check_number("sphere_factor", sphere_factor, minimum=0)

    def penalty(self, rows: Any) -> Any:
        value = -self.factor * mean(tree_edges(rows))
        if self.sphere_factor == 0:  # Squares of features of 1e20 are infinite.
            return value
        return value + self.sphere_factor * mean(ops.square(lengths(rows) - 1.0))
