"""Features that repel each other: a contrastive loss without positive pairs."""

from typing import Any

from keras import ops

from keras_regularize.numerics import matmul, mean, minimum, unit_vectors
from keras_regularize.ops.points import pair_squares
from keras_regularize.registration import export
from keras_regularize.regularizers.features._feature_regularizer import FeatureRegularizer
from keras_regularize.validation import check_choice, check_number


@export
class Dispersive(FeatureRegularizer):
    r"""Spreads the features of a batch, as a contrastive loss does, without pairs of views.

    For the features $z_i \in \mathbb R^D$ of one layer, with $\lambda$ times one of

    $$\begin{aligned}
    \text{l2:} \quad & \log \frac1{B^2} \sum_{ij} e^{-\|z_i - z_j\|^2 / (D \tau)}, &
    \text{cosine:} \quad & \log \frac1{B^2} \sum_{ij} e^{\cos(z_i, z_j) / \tau}, \\
    \text{hinge:} \quad & \frac1{B^2} \sum_{ij} \max\Big(0, \epsilon - \frac{\|z_i - z_j\|^2}{D}\Big)^2, &
    \text{covariance:} \quad & \sum_{m \ne n} C_{mn}^2,
    \end{aligned}$$

    all pairs of the batch, each sample with itself too, and $C$ the correlations of the features over the batch.
    It was made for diffusion models, whose regression is the only loss otherwise: at the outputs of one block, a
    quarter of the depth or later. There is no second view and nothing to tune beside. *l2* lies between $-\log B$
    and 0; *cosine* does not depend on the lengths of features and *covariance* not on the scale of each.

    As an activity regularizer it returns the value times the batch size, because Keras divides activity losses by
    the batch size, and the value itself before Keras 3.14, which did not.

    On several TensorFlow replicas, or in several processes of PyTorch, the batch is the share that one of them
    sees, and their values are averaged: a layer may be called in a branch or a loop, where they cannot wait for
    each other. Under `keras.distribution` on JAX it is the whole batch.

    Args:
        factor: $\lambda \ge 0$.
        variant: `"l2"`, `"cosine"`, `"hinge"` or `"covariance"`.
        temperature: $\tau > 0$, for *l2* and *cosine*.
        margin: $\epsilon > 0$, for *hinge*.

    Input: the outputs `(batch, …)` of a layer, flattened to `(batch, D)`. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or features have no axis beside the batch.

    Cost: one matrix product $B^2 D$ and a few passes over $B^2$ numbers.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    x = inputs = keras.Input((16,))
    x = keras.layers.Dense(32, "relu")(x)
    x = keras.layers.Identity(activity_regularizer=kr.regularizers.Dispersive(0.5))(x)
    model = keras.Model(inputs, keras.layers.Dense(16)(x))
    ```

    Reference: Runqian Wang and Kaiming He, *Diffuse and Disperse: Image Generation with Representation
    Regularization*, 2025, arXiv:2506.09027. The division by $D$ is that of their code for `"l2"`; for `"hinge"` it
    is ours.
    """

    def __init__(
        self,
        factor: float = 0.5,
        variant: str = "l2",
        temperature: float = 0.5,
        margin: float = 1.0,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.variant = check_choice("variant", variant, ("l2", "cosine", "hinge", "covariance"))
        self.temperature = check_number("temperature", temperature, above=0)
        self.margin = check_number("margin", margin, above=0)

    def penalty(self, rows: Any) -> Any:
        if self.variant == "covariance":
            return self.factor * _correlation(rows)
        if self.variant == "cosine":
            units = unit_vectors(rows)
            return self.factor * _log_mean(matmul(units, ops.transpose(units)) / self.temperature)
        squares, scale = pair_squares(rows)
        # Whatever the scale, a pair that far apart does not count.
        squares = squares * ops.square(minimum(scale, 1e15)) / rows.shape[1]
        if self.variant == "l2":
            return self.factor * _log_mean(-squares / self.temperature)
        return self.factor * mean(ops.square(ops.relu(self.margin - squares)))


def _log_mean(exponents):
    """Logarithm of the mean exponential of a square matrix."""
    count = ops.cast(ops.shape(exponents)[0], exponents.dtype)
    return ops.logsumexp(exponents) - 2.0 * ops.log(count)


def _correlation(rows):
    """Sum of the squared correlations of different features."""
    centred = rows - mean(rows, axis=0, keepdims=True)
    largest = ops.stop_gradient(ops.max(ops.abs(centred), axis=0))
    constant = largest <= 1e-6 * ops.stop_gradient(ops.max(ops.abs(rows), axis=0))
    u = ops.where(constant, 0.0, centred / ops.where(constant, 1.0, largest))
    variances = mean(u * u, axis=0)
    u = u / ops.sqrt(ops.where(constant, 1.0, variances))
    batch, dim = rows.shape
    # The sum of squares of one Gram matrix is that of the other: the smaller one.
    wide = dim > (256 if batch is None else batch)
    products = matmul(u, ops.transpose(u)) if wide else matmul(ops.transpose(u), u)
    count = ops.cast(ops.shape(rows)[0], rows.dtype)
    products = products / count
    if wide:
        return ops.relu(ops.sum(products * products) - ops.sum(ops.where(constant, 0.0, 1.0)))
    diagonal = ops.eye(dim, dtype=products.dtype)
    return ops.sum(ops.square(products * (1.0 - diagonal)))
