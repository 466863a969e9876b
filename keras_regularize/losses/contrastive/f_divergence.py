"""Contrastive losses of other divergences than that of InfoNCE."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, as_weights, diagonal, two_views
from keras_regularize.numerics import matmul, maximum, unit_vectors
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number

DIVERGENCES = ("kl", "chi_square", "hellinger", "reverse_kl")
#: Newton steps from a lower bound; with ten thousand columns the last of them moves by no more than rounding.
STEPS = 12


@export
class FDivergenceContrastive(ViewsLoss):
    r"""Contrastive loss from an f-divergence between what belongs together and what does not.

    With scores $s_{ij}$ of view one of sample $i$ and view two of sample $j$, and $f^*$ the convex conjugate of
    $f$,

    $$\ell_i = -s_{ii} + \min_c \Big\{ \frac1M \sum_j f^*(s_{ij} - c) + c \Big\},$$

    the variational form of the divergence between the joint distribution of two views and the product of their
    distributions, in which the best shift $c$ of each anchor is found.

    | `divergence` | $f(x)$ | $\ell_i$ |
    |---|---|---|
    | `"kl"` | $x \log x$ | $\log \frac1M \sum_j e^{s_{ij}} - s_{ii}$, which is InfoNCE less $\log M$ |
    | `"chi_square"` | $(x - 1)^2 / 2$ | $\bar s_i + \frac12 \operatorname{Var}_j s_{ij} - s_{ii}$ |
    | `"hellinger"` | $(1 - \sqrt x)^2$ | with $c$ from $\frac1M \sum_j (1 - s_{ij} + c)^{-2} = 1$ |
    | `"reverse_kl"` | $-\log x$ | with $c$ from $\frac1M \sum_j (c - s_{ij})^{-1} = 1$ |

    A constant that is added to the scores of an anchor changes nothing, equal scores have the value 0, and the
    gradients of an anchor's negatives sum to 1. How good an encoder is for later tasks is bounded by how far this
    loss is above that of the best scores (Lin and Mei); `analysis.sufficiency_gap` tells it where these are known.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        divergence: A row of the table.
        temperature: What similarities are divided by, above 0.
        normalized: Whether similarities are cosines; else they are products.
        include_positive: Whether $j = i$ is among the columns.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used, may be `None`.
        y_pred: Features of two views `(batch, 2, dim)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar. Without any column it is 0.

    Raises:
        ValueError: If an argument is out of range, or if the shapes do not fit.

    Cost: one product of the views' features, $O(B^2 d)$, and $B^2$ numbers; the last two divergences go over these
    a dozen times, without gradient.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.FDivergenceContrastive("chi_square", temperature=0.5)
    loss(None, np.random.normal(size=(16, 2, 8)))
    ```

    Reference: Licong Lin and Song Mei, *A Statistical Theory of Contrastive Learning via Approximate Sufficient
    Statistics*, 2025, arXiv:2503.17538.
    """

    def __init__(
        self,
        divergence: str = "kl",
        temperature: float = 0.1,
        normalized: bool = True,
        include_positive: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "f_divergence_contrastive",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.divergence = check_choice("divergence", divergence, DIVERGENCES)
        self.temperature = check_number("temperature", temperature, above=0)
        self.normalized = bool(normalized)
        self.include_positive = bool(include_positive)

    def sample_values(self, y_true, z, here):
        a, b = two_views(z)
        if self.normalized:
            a, b = unit_vectors(a), unit_vectors(b)
        a = a / self.temperature
        scores, own = matmul(a, ops.transpose(b)), ops.sum(a * b, axis=-1)
        weights = as_weights(here, a)[None, :] * ops.ones_like(scores)
        if not self.include_positive:
            weights = weights * (1.0 - diagonal(a))
        count = ops.sum(weights, axis=-1)
        weights = weights / maximum(count, 1.0)[:, None]
        # From the largest score on down, where nothing overflows and no digits are lost.
        inside = ops.where(weights > 0, scores, -float("inf"))
        top = ops.stop_gradient(ops.max(inside, axis=-1))
        top = ops.where(count > 0, top, 0.0)
        below = ops.where(weights > 0, top[:, None] - scores, 0.0)
        values = self._mean_conjugate(below, weights, count) + top - own
        return ops.where(count > 0, values, 0.0)

    def _mean_conjugate(self, below, weights, count):
        """The minimum over shifts for scores of `-below`, whose means have `weights`."""

        def mean(x):
            return ops.sum(weights * x, axis=-1)

        if self.divergence == "kl":
            return ops.log(mean(ops.exp(-below)) + ops.cast(count == 0, below.dtype))
        if self.divergence == "chi_square":
            middle = mean(below)
            return 0.5 * mean(ops.square(below - middle[:, None])) - middle
        if self.divergence == "hellinger":
            shift = _shift(below, mean, count, 2)
            return mean(1.0 / (below + shift[:, None])) + shift - 2.0
        shift = _shift(below, mean, count, 1)
        return shift - 1.0 - mean(ops.log(below + shift[:, None]))


def _shift(below, mean, count, power):
    """`t` with `mean((below + t)^-power) = 1`, between 0 and 1, without gradient.

    The power mean of `below + t` is concave in `t`, so that Newton's steps from below stay below.
    """
    below = ops.stop_gradient(below)
    shift = maximum(count, 1.0) ** (-1.0 / power)
    for _ in range(STEPS):
        inverse = 1.0 / (below + shift[:, None])
        powers = inverse if power == 1 else inverse * inverse
        level = mean(powers)
        slope = mean(powers * inverse)
        # g = level^(-1 / power) - 1 and g' = level^(-1 / power - 1) slope.
        root = level if power == 1 else ops.sqrt(level)
        step = (root - 1.0) * level / maximum(slope, 1e-30)
        shift = ops.where(count > 0, maximum(shift + step, shift), 1.0)
    return ops.stop_gradient(shift)
