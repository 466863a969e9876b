"""Features spread evenly over the sphere."""

from typing import Any

from keras import ops

from keras_regularize.numerics import minimum, unit_vectors
from keras_regularize.ops.points import pair_squares, same_row
from keras_regularize.registration import export
from keras_regularize.regularizers.features._feature_regularizer import FeatureRegularizer
from keras_regularize.validation import check_number


@export
class Uniformity(FeatureRegularizer):
    r"""Spreads features evenly over the unit sphere: the second half of what contrastive losses do.

    $$\lambda \log \frac{2}{B(B-1)} \sum_{i<j} e^{-t \|u_i - u_j\|^2}, \qquad u_i = z_i / \|z_i\|,$$

    the logarithm of the mean Gaussian potential of the pairs of a batch. It lies between $-4 t \lambda$ and 0,
    where all features are equal. The other half is the distance of two views of a sample: `losses.Alignment`.

    As an activity regularizer it returns the value times the batch size, because Keras divides activity losses by
    the batch size, and the value itself before Keras 3.14, which did not. A batch of one has value 0.

    On several TensorFlow replicas, or in several processes of PyTorch, the batch is the share that one of them
    sees, and their values are averaged: a layer may be called in a branch or a loop, where they cannot wait for
    each other. Under `keras.distribution` on JAX it is the whole batch.

    Args:
        factor: $\lambda \ge 0$.
        t: $t > 0$, the inverse width of the potential.
        normalized: Whether features are divided by their norms; `False` takes them as they are.

    Input: the outputs `(batch, …)` of a layer, flattened to `(batch, dim)`. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or features have no axis beside the batch.

    Cost: one matrix product $B^2 D$ and a few passes over $B^2$ numbers.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(32, activity_regularizer=kr.regularizers.Uniformity(0.1))
    ```

    Reference: Tongzhou Wang and Phillip Isola, *Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere*, ICML 2020, arXiv:2005.10242.
    """

    def __init__(self, factor: float = 1.0, t: float = 2.0, normalized: bool = True):
        self.factor = check_number("factor", factor, minimum=0)
        self.t = check_number("t", t, above=0)
        self.normalized = bool(normalized)

    def penalty(self, rows: Any) -> Any:
        count = ops.cast(ops.shape(rows)[0], rows.dtype)
        squares, scale = pair_squares(unit_vectors(rows) if self.normalized else rows)
        exponents = -self.t * squares * ops.square(minimum(scale, 1e15))
        # Least numbers instead of none, of which a batch of one has nothing but.
        total = ops.logsumexp(ops.where(same_row(rows), -1e30, exponents))
        pairs = count * (count - 1.0)
        some = pairs > 0
        value = total - ops.log(ops.where(some, pairs, 1.0))
        return self.factor * ops.where(some, value, 0.0 * ops.sum(rows))
