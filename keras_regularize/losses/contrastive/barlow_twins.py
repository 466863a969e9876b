"""Redundancy reduction."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, as_weights, two_views
from keras_regularize.losses.contrastive.vicreg import centered, without_diagonal
from keras_regularize.numerics import matmul, maximum
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class BarlowTwins(ViewsLoss):
    r"""Barlow Twins: makes the correlation matrix between the features of two views the unit matrix.

    $$\sum_i (C_{ii} - 1)^2 + \lambda \sum_{i \ne j} C_{ij}^2, \qquad
      C = \frac1n\, \tilde a^\top \tilde b,$$

    where $\tilde a$ and $\tilde b$ are the features of the views, each standardised over the batch with the
    biased variance, to which $\epsilon$ is added. The diagonal makes views equal, the rest makes features say
    different things; there are no negatives, and small batches do. Scale and mean of the features do not matter.

    It is one number for the batch, which every sample has as its value. Statistics are those of the samples
    that count: neither masked nor of weight 0; otherwise weights do not act on them.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        redundancy_factor: $\lambda \ge 0$.
        epsilon: $\epsilon > 0$.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used, may be `None`.
        y_pred: Features of two views `(batch, 2, dim)`, such as those of a wide projector.

    Returns:
        With `reduction="none"` the value for each sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of range, or if the shapes do not fit.

    Cost: a product of features with features: $O(B d^2)$ operations and $d^2$ numbers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MultiView(
        encoder, keras.layers.GaussianNoise(0.1), projector=keras.layers.Dense(32), concatenate=False
    )
    model.compile("adam", loss=kr.losses.BarlowTwins())
    model.fit(np.random.normal(size=(64, 8)), verbose=0)
    ```

    Reference: Jure Zbontar, Li Jing, Ishan Misra, Yann LeCun and Stéphane Deny, *Barlow Twins: Self-Supervised
    Learning via Redundancy Reduction*, ICML 2021, arXiv:2103.03230.
    """

    def __init__(
        self,
        redundancy_factor: float = 0.0051,
        epsilon: float = 1e-5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "barlow_twins",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.redundancy_factor = check_number("redundancy_factor", redundancy_factor, minimum=0)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def sample_values(self, y_true, z, here):
        weights = as_weights(here, z[:, 0])
        count = maximum(ops.sum(weights), 1.0)
        a, b = (self._standardized(view, weights, count) for view in two_views(z))
        correlation = matmul(ops.transpose(a), b) / count
        same = ops.sum(ops.square(ops.sum(a * b, axis=0) / count - 1.0))
        others = ops.sum(ops.square(without_diagonal(correlation)))
        return (same + self.redundancy_factor * others) * ops.ones_like(weights)

    def _standardized(self, x, weights, count):
        x = centered(x, weights, count)
        return x / ops.sqrt(ops.sum(x * x, axis=0, keepdims=True) / count + self.epsilon)
