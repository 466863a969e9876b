"""Distortion of shape and of time, apart."""

import numpy as np
from keras import ops

from keras_regularize.losses.forecasting._alignments import forward_sums, shares, skewed
from keras_regularize.losses.forecasting.soft_dtw import SeriesLoss, alignment_sums
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class DILATE(SeriesLoss):
    r"""Distortion loss of shape and time: soft dynamic time warping, and how far the alignment is from no shift.

    With the soft-DTW value $R$ of the costs $D$ (see `losses.SoftDTW`), $k$ time steps and the soft alignment
    $E = \partial R / \partial D$, whose entry $E_{ij}$ is the share of alignments that pair $i$ with $j$,

    $$\ell = \alpha\, R + (1 - \alpha) \sum_{ij} E_{ij} \frac{(i - j)^2}{k^2} .$$

    The first term judges the shape, wherever it is in time; the second makes it come in time. Soft-DTW alone
    is content with a right shape at a wrong time, and squared error with a flat forecast. The two terms have
    scales of their own, that of squared targets and a fixed one: standardize the targets, then choose $\alpha$.
    Start from a model trained on squared error, since a forecast at a wrong time altogether is not pulled to
    the right one.

    Args:
        alpha: Weight $\alpha$ of the shape, in [0, 1].
        gamma: Softness $\gamma > 0$ of the alignment, in units of squared distances.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Series `(batch, time)` or `(batch, time, dims)`.
        y_pred: Series of the same shape.

    Returns:
        With `reduction="none"` one value per series `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, the shapes do not fit, the length is unknown, or the
            predictions carry a mask.

    Cost: two to three times that of `losses.SoftDTW`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    peak = np.zeros((1, 20))
    peak[0, 8] = 1.0
    loss = kr.losses.DILATE(alpha=0.5, gamma=0.01)
    loss(peak, np.roll(peak, 2, axis=1)) < loss(peak, np.roll(peak, 6, axis=1))
    ```

    Reference: Vincent Le Guen and Nicolas Thome, *Shape and Time Distortion Loss for Training Deep Time Series
    Forecasting Models*, NeurIPS 2019, arXiv:1909.09020.
    """

    equal_lengths = True

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 0.01,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "dilate",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=0, maximum=1)
        self.gamma = check_number("gamma", gamma, above=0)

    def call(self, y_true, y_pred):
        targets, predicted = self.read(y_true, y_pred)
        sums = alignment_sums(targets, predicted, self.gamma)
        shape = -self.gamma * sums[-1, :, -1]
        # The sum of E times a matrix is the derivative of R along it, without E.
        steps = np.arange(predicted.shape[1]) / predicted.shape[1]
        shifts = ops.convert_to_tensor((steps[:, None] - steps) ** 2, dtype=predicted.dtype)
        shifts = skewed(shifts[None], 0.0) + ops.zeros_like(sums[2:, :, 1:])
        time = forward_sums(shares(sums), shifts)[-1, :, -1]
        return self.alpha * shape + (1.0 - self.alpha) * time
