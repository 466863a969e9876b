"""Variance, invariance and covariance."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, as_weights, two_views
from keras_regularize.numerics import GUARD, matmul, maximum, mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class VICReg(ViewsLoss):
    r"""VICReg: equal views, features that vary, and no two alike; without negatives.

    Of the features $a$ and $b$ of two views, $n$ samples and $d$ features,

    $$\frac{\lambda}{n d} \sum_{i} \|a_i - b_i\|^2
      + \frac{\mu}{2} \sum_{z \in \{a, b\}} \frac1d
        \sum_j \max\!\big(0,\, 1 - \sqrt{\operatorname{Var}(z_j) + \epsilon}\big)
      + \frac{\nu}{d} \sum_{z \in \{a, b\}} \sum_{i \ne j} \operatorname{Cov}(z)_{ij}^2$$

    with variances and covariances over the batch, divided by $n - 1$. The second part keeps every feature's
    standard deviation above 1, so that nothing collapses, the third decorrelates features. Features are not
    normalised. The variance part is halved and the covariance part is not, as in the authors' code. A batch of
    one has the first part alone.

    It is one number for the batch, which every sample has as its value. Statistics are those of the samples
    that count: neither masked nor of weight 0; otherwise weights do not act on them.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        invariance_factor: $\lambda \ge 0$.
        variance_factor: $\mu \ge 0$.
        covariance_factor: $\nu \ge 0$.
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

    Cost: a product of features with features for each view: $O(B d^2)$ operations and $d^2$ numbers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MultiView(
        encoder, keras.layers.GaussianNoise(0.1), projector=keras.layers.Dense(32), concatenate=False
    )
    model.compile("adam", loss=kr.losses.VICReg())
    model.fit(np.random.normal(size=(64, 8)), verbose=0)
    ```

    Reference: Adrien Bardes, Jean Ponce and Yann LeCun, *VICReg: Variance-Invariance-Covariance Regularization
    for Self-Supervised Learning*, ICLR 2022, arXiv:2105.04906.
    """

    def __init__(
        self,
        invariance_factor: float = 25.0,
        variance_factor: float = 25.0,
        covariance_factor: float = 1.0,
        epsilon: float = 1e-4,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "vicreg",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.invariance_factor = check_number("invariance_factor", invariance_factor, minimum=0)
        self.variance_factor = check_number("variance_factor", variance_factor, minimum=0)
        self.covariance_factor = check_number("covariance_factor", covariance_factor, minimum=0)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def sample_values(self, y_true, z, here):
        a, b = two_views(z)
        weights = as_weights(here, a)
        count = ops.sum(weights)
        invariance = ops.sum(weights * mean(ops.square(a - b), axis=-1)) / maximum(count, 1.0)
        spread = self._spread(a, weights, count) + self._spread(b, weights, count)
        spread = ops.where(count > 1, spread, 0.0)
        return (self.invariance_factor * invariance + spread) * ops.ones_like(weights)

    def _spread(self, x, weights, count):
        """The parts of variance and covariance of one view."""
        x = centered(x, weights, count)
        pairs = maximum(count - 1.0, 1.0)
        covariance = matmul(ops.transpose(x), x) / pairs
        variances = ops.sum(x * x, axis=0) / pairs
        low = mean(ops.relu(1.0 - ops.sqrt(variances + self.epsilon)))
        between = without_diagonal(covariance)
        return 0.5 * self.variance_factor * low + self.covariance_factor * (
            ops.sum(between * between) / x.shape[-1]
        )


def centered(x, weights, count):
    """Features less their mean over the samples that count, and 0 for the others."""
    weights = weights[:, None]
    # Twice: far from the origin the first mean is rounded by more than its samples differ.
    for _ in range(2):
        x = x - ops.sum(weights * x, axis=0, keepdims=True) / (count + GUARD)
    return weights * x


def without_diagonal(matrix):
    """A square matrix with zeros on its diagonal."""
    return matrix * (1.0 - ops.eye(matrix.shape[-1], dtype=matrix.dtype))
