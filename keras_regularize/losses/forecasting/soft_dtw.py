"""Soft dynamic time warping: a distance of series that forgives shifts in time."""

import math
from typing import Any

from keras import ops

from keras_regularize.losses.forecasting._alignments import FAR, log_sums, skewed
from keras_regularize.losses.loss import Loss
from keras_regularize.masks import keras_mask
from keras_regularize.numerics import matmul, maximum, mean, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number, compatible


class SeriesLoss(Loss):
    """A loss that compares whole series, one value for each."""

    #: Whether targets and predictions must have one length.
    equal_lengths = False

    def __call__(self, y_true, y_pred, sample_weight=None):
        if keras_mask(y_pred) is not None:
            raise ValueError(
                f"`{type(self).__name__}` compares whole series, of which no time step can be left out. "
                "Received: predictions with a mask"
            )
        return super().__call__(y_true, y_pred, sample_weight)

    def read(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Both as `(batch, time, dims)`, in one dtype of at least float32."""
        predicted = upcast(y_pred)
        targets = ops.cast(ops.convert_to_tensor(y_true), predicted.dtype)
        given = tuple(targets.shape), tuple(predicted.shape)
        targets, predicted = (
            x[..., None] if len(x.shape) == 2 else x for x in (targets, predicted)
        )
        lengths = "equal lengths" if self.equal_lengths else "lengths"
        shapes = tuple(targets.shape), tuple(predicted.shape)
        fits = len(shapes[0]) == len(shapes[1]) == 3 and compatible(shapes[0][::2], shapes[1][::2])
        times = {shape[1] for shape in shapes} if fits else {None}
        if not all(times) or self.equal_lengths and len(times) > 1:
            raise ValueError(
                f"Expected series (batch, time) or (batch, time, dims) of known {lengths}. "
                f"Received: y_true.shape={given[0]}, y_pred.shape={given[1]}"
            )
        return targets, predicted


def squared_distances(x, y):
    """Between the steps of `x (batch, n, dims)` and `y (batch, m, dims)`: `(batch, n, m)`."""
    if x.shape[-1] == 1:
        return ops.square(x - ops.transpose(y, (0, 2, 1)))
    centre = ops.stop_gradient(mean(x, axis=1, keepdims=True))  # Large products cancel badly.
    x, y = x - centre, y - centre
    sums = [ops.sum(ops.square(z), axis=-1) for z in (x, y)]
    products = matmul(x, ops.transpose(y, (0, 2, 1)))
    return maximum(sums[0][:, :, None] + sums[1][:, None, :] - 2.0 * products, 0.0)


def alignment_sums(x, y, gamma):
    """`log_sums` of the squared distances over `gamma`."""
    x, y = (z / math.sqrt(gamma) for z in (x, y))
    return log_sums(skewed(squared_distances(x, y), FAR))


@export
class SoftDTW(SeriesLoss):
    r"""Soft dynamic time warping: squared distance of two series under the best alignment of their time steps.

    With the costs $D_{ij} = \lVert y_i - \hat y_j \rVert^2$ of pairing time steps,

    $$R_{ij} = D_{ij} + \operatorname{softmin}_\gamma(R_{i-1,j-1}, R_{i-1,j}, R_{i,j-1}), \qquad
      \operatorname{softmin}_\gamma(a) = -\gamma \log \sum_k e^{-a_k / \gamma},$$

    with $R_{00} = 0$, and $R_{nm}$, of the last steps, is the value: a soft minimum over all alignments that keep
    the order. A peak forecast a step late costs little, where squared error counts it twice: as missing and as
    false. $\gamma \to 0$ gives dynamic time warping, whose gradient jumps; the value is of the scale of $D$,
    summed over time, and so is a good $\gamma$. There are many local minima in time: start from a model trained on
    squared error. It may be negative, also for equal series, since the sum over
    alignments counts more than the best. `normalize=True` subtracts half of what each series costs against
    itself, and the value is 0 for equal series and positive for others.

    Args:
        gamma: Softness $\gamma > 0$, in units of squared distances.
        normalize: Whether to subtract the halves of $R(y, y)$ and $R(\hat y, \hat y)$: the soft-DTW divergence.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Series `(batch, time)` or `(batch, time, dims)`.
        y_pred: Series likewise; their length may be another.

    Returns:
        With `reduction="none"` one value per series `(batch,)`, else a scalar.

    Raises:
        ValueError: If `gamma` is not positive, the shapes do not fit, a length is unknown, or the predictions
            carry a mask.

    Cost: `n + m` steps forward and as many backward, one after the other, each over `batch × n` entries, and
    memory for some ten arrays `(batch, n, n + m)`; three times that with `normalize`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    peak = np.zeros((1, 20))
    peak[0, 8] = 1.0
    late, flat = np.roll(peak, 2, axis=1), 0.0 * peak
    loss = kr.losses.SoftDTW(gamma=0.01)
    loss(peak, late) < loss(peak, flat)  # Squared error prefers the flat forecast.
    ```

    Reference: Marco Cuturi and Mathieu Blondel, *Soft-DTW: a Differentiable Loss Function for Time-Series*,
    ICML 2017, arXiv:1703.01541; normalized: Mathieu Blondel, Arthur Mensch and Jean-Philippe Vert,
    *Differentiable Divergences between Time Series*, AISTATS 2021, arXiv:2010.08354.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        normalize: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "soft_dtw",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.gamma = check_number("gamma", gamma, above=0)
        self.normalize = bool(normalize)

    def call(self, y_true, y_pred):
        targets, predicted = self.read(y_true, y_pred)
        value = self._cost(targets, predicted)
        if self.normalize:
            value = value - 0.5 * (self._cost(targets, targets) + self._cost(predicted, predicted))
        return value

    def _cost(self, x, y):
        return -self.gamma * alignment_sums(x, y, self.gamma)[-1, :, -1]
