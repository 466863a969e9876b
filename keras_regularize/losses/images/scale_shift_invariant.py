"""Error of depths up to a scale and a shift of the image."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import GUARD, TINY, maximum
from keras_regularize.registration import export
from keras_regularize.targets import mean_of_samples, measured_targets


@export
class ScaleShiftInvariant(Loss):
    r"""Squared error of depths or disparities after the best scale and shift of each image.

    With the predictions $\hat y_i$ and targets $y_i$ of the pixels of an image that have a target, its value is

    $$\min_{s, t}\ \operatorname*{mean}_i\ (s\, \hat y_i + t - y_i)^2 ,$$

    found in closed form: the variance of the targets that no linear function of the predictions explains. So
    data sets of unknown scales and baselines train one model. A prediction upside down costs no more than one
    upright. The value of a constant one is the variance of the targets, without a gradient: it has no best scale.
    Ranftl and others take half of this.

    Args:
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Depths or disparities `(batch, height, width)`, `(batch, height, width, 1)` or `(batch, …)`.
            Pixels without a measurement, where it is 0, negative, infinite or NaN, do not count. Numbers such as
            log-depths become positive by a constant, which does not change the value.
        y_pred: Predictions of the same shape, any numbers.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar. An image without any measurement has
        the value 0.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: three passes over the pixels.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    disparity = np.random.uniform(0.1, 1, size=(2, 16, 16))
    disparity[:, :4] = np.nan  # Not measured.
    kr.losses.ScaleShiftInvariant()(disparity, np.random.normal(size=(2, 16, 16, 1)))
    ```

    Reference: René Ranftl and others, *Towards Robust Monocular Depth Estimation: Mixing Datasets for Zero-shot
    Cross-dataset Transfer*, TPAMI 2022, arXiv:1907.01341.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "scale_shift_invariant",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        y, p, there = measured_targets(y_true, y_pred)
        size = mean_of_samples(ops.square(p), there, keepdims=True)
        y, p = (x - mean_of_samples(x, there, keepdims=True) for x in (y, p))
        variance = mean_of_samples(ops.square(p), there, keepdims=True)
        constant = variance <= maximum(GUARD * size, TINY)
        covariance = mean_of_samples(p * y, there, keepdims=True)
        scale = ops.where(constant, 0.0, covariance / ops.where(constant, 1.0, variance))
        # At the best scale the value does not change with it.
        return mean_of_samples(ops.square(ops.stop_gradient(scale) * p - y), there)
