"""Features of high local dimension."""

from typing import Any

import keras
from keras import ops

from keras_regularize.numerics import maximum, mean, safe_sqrt
from keras_regularize.ops.points import pair_squares
from keras_regularize.registration import export
from keras_regularize.regularizers.features._feature_regularizer import FeatureRegularizer
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class LDReg(FeatureRegularizer):
    r"""Raises the local intrinsic dimension of features: how fast a neighbourhood fills as it grows.

    Features can have full rank and still lie, around each sample, on a line or a sheet. With the sorted distances
    $a_1 \le a_2 \le \dots$ from a sample to the others of the batch and $k' = \min(k, B - 2)$, its dimension is

    $$\text{moments:}\; \frac{m}{a_{k'} - m},\; m = \frac{1}{k' - 1} \sum_{j<k'} a_j, \qquad
      \text{mle:}\; \frac{-k'}{\sum_{j<k'} \log(a_j / a_{k'} + 10^{-4})},$$

    and the penalty, over the batch, of order 1 or 2

    $$-\lambda \operatorname{mean} \log \mathrm{LID} \quad\text{or}\quad
      -\lambda \sqrt{\operatorname{mean} (\log \mathrm{LID})^2}.$$

    A sample is moved, the others it is measured against are constants. The scale of features is free. Apply it to
    the features of the encoder, not of the projector, after some epochs without.
    `analysis.local_intrinsic_dimension` measures what became of it.

    As an activity regularizer it returns the value times the batch size, because Keras divides activity losses by
    the batch size, and the value itself before Keras 3.14, which did not. A batch below four has value 0. Samples
    closer than about a thousandth of the spread of the batch count as equal: float32 tells no more.

    On several TensorFlow replicas, or in several processes of PyTorch, the batch is the share that one of them
    sees, and their values are averaged: a layer may be called in a branch or a loop, where they cannot wait for
    each other. Under `keras.distribution` on JAX it is the whole batch.

    Args:
        factor: $\lambda \ge 0$; 0.01 with SimCLR, 0.005 with BYOL, 5e-6 with masked autoencoders.
        k: $k \ge 2$ neighbours; 16 to 128.
        estimator: `"moments"` or `"mle"`.
        order: 1 or 2, which order of the mean of dimensions.
        absolute: Whether to take $|\log \mathrm{LID}|$ for order 1, as in the authors' training code: it lowers
            dimensions below 1 further.
        epsilon: $\epsilon > 0$, the least numerator and denominator.

    Input: the outputs `(batch, …)` of a layer, flattened to `(batch, dim)`. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or features have no axis beside the batch.

    Cost: one matrix product $B^2 D$ and a sort of each of its rows.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(32, activity_regularizer=kr.regularizers.LDReg(0.01, k=16))
    ```

    Reference: Hanxun Huang, Ricardo J. G. B. Campello, Sarah Monazam Erfani, Xingjun Ma, Michael E. Houle and
    James Bailey, *LDReg: Local Dimensionality Regularized Self-Supervised Learning*, ICLR 2024, arXiv:2401.10474.
    """

    def __init__(
        self,
        factor: float = 0.01,
        k: int = 64,
        estimator: str = "moments",
        order: int = 1,
        absolute: bool = False,
        epsilon: float = 1e-7,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.k = check_integer("k", k, minimum=2)
        self.estimator = check_choice("estimator", estimator, ("moments", "mle"))
        self.order = check_choice("order", order, (1, 2))
        self.absolute = bool(absolute)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def penalty(self, rows: Any) -> Any:
        logs = self._log_dimensions(rows)
        if self.order == 2:
            return -self.factor * safe_sqrt(mean(logs * logs))
        if self.absolute:
            logs = ops.stop_gradient(ops.sign(logs)) * logs
        return -self.factor * mean(logs)

    def _log_dimensions(self, rows):
        count = ops.shape(rows)[0]
        k = ops.minimum(self.k, count - 2)
        squares, scale = _told_apart(rows)
        distances = scale * safe_sqrt(ops.sort(squares, axis=-1))
        position = ops.arange(count, dtype="int32")
        inner = ops.logical_and(position > 0, position < k)
        neighbours = ops.cast(maximum(k - 1, 1), distances.dtype)
        last = ops.sum(ops.where(position == k, distances, 0.0), axis=-1)
        if self.estimator == "moments":
            inside = ops.sum(ops.where(inner, distances, 0.0), axis=-1) / neighbours
            logs = self._log(inside) - self._log(last - inside)
        else:
            some = last > 0
            shares = distances / ops.where(some, last, 1.0)[:, None]
            total = ops.sum(ops.where(inner, ops.log(shares + 1e-4), 0.0), axis=-1)
            logs = ops.log(neighbours + 1.0) - self._log(-total)
            logs = ops.where(some, logs, 0.0 * last)
        return ops.where(k >= 2, logs, 0.0 * last)

    def _log(self, x):
        return ops.log(maximum(x, self.epsilon))


def _told_apart(rows):
    """`pair_squares`, 0 where nothing is left but rounding."""
    squares, scale = pair_squares(rows, to_constants=True)
    means = ops.stop_gradient(mean(squares, axis=-1))
    rounding = 1e-6 if keras.backend.standardize_dtype(rows.dtype) == "float32" else 1e-14
    equal = squares <= rounding * (means[:, None] + means[None, :])
    return ops.where(equal, 0.0, squares), scale
