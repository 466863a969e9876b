"""Error of depths up to a scale of the image."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import maximum
from keras_regularize.registration import export
from keras_regularize.targets import mean_of_samples, measured_targets
from keras_regularize.validation import check_number


@export
class ScaleInvariantLog(Loss):
    r"""Squared error of log-depths that forgives a part of what all pixels of an image have in common.

    With the differences $d_i = \log \hat y_i - \log y_i$ of the pixels of an image that have a depth, its value is

    $$\operatorname*{mean}_i d_i^2 - \lambda \big(\operatorname*{mean}_i d_i\big)^2 .$$

    The scale of a scene, which a single image hardly tells, weighs less than its shape: with $\lambda = 1$ a
    prediction may be multiplied by any factor. Some code takes ten times the square root of it.

    Args:
        variance_weight: $\lambda$ in [0, 1]. Eigen and others take 0.5, later work 0.85.
        from_logits: Whether `y_pred` are log-depths, which may be any numbers. Depths below 1e-7 count as 1e-7
            and have no gradient: end the model with a softplus or an exponential, not with a relu.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Depths `(batch, height, width)`, `(batch, height, width, 1)` or `(batch, …)`. Pixels without a
            measurement, where it is 0, negative, infinite or NaN, do not count.
        y_pred: Depths of the same shape, or log-depths if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar. An image without any measurement has
        the value 0.

    Raises:
        ValueError: If `variance_weight` is not in [0, 1], or the shapes do not fit.

    Cost: two logarithms per pixel.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    depth = np.random.uniform(1, 10, size=(2, 16, 16))
    depth[:, :4] = 0.0  # Not measured.
    kr.losses.ScaleInvariantLog()(depth, np.random.uniform(1, 10, size=(2, 16, 16, 1)))
    ```

    Reference: David Eigen, Christian Puhrsch, Rob Fergus, *Depth Map Prediction from a Single Image using a
    Multi-Scale Deep Network*, NIPS 2014, arXiv:1406.2283.
    """

    def __init__(
        self,
        variance_weight: float = 0.85,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "scale_invariant_log",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.variance_weight = check_number("variance_weight", variance_weight, 0, 1)
        self.from_logits = bool(from_logits)

    def call(self, y_true, y_pred):
        y, p, there = measured_targets(y_true, y_pred)
        difference = (p if self.from_logits else ops.log(maximum(p, 1e-7))) - ops.log(y)
        mean = mean_of_samples(difference, there, keepdims=True)
        spread = mean_of_samples(ops.square(difference - mean), there)
        return spread + (1.0 - self.variance_weight) * ops.square(mean_of_samples(mean, there))
