"""How often depths are right up to a factor."""

import numpy as np
from keras import ops

from keras_regularize.metrics.images.image_metric import ImageMetric
from keras_regularize.registration import export
from keras_regularize.targets import mean_of_samples, measured_targets
from keras_regularize.validation import check_number


@export
class ThresholdAccuracy(ImageMetric):
    r"""Share of depths that are right up to a factor, "$\delta < 1.25$" of depth benchmarks.

    With the depths $y_i$ and predictions $\hat y_i$ of the pixels of an image that have a depth, its value is

    $$\operatorname*{mean}_i \Big[\max\Big(\frac{\hat y_i}{y_i}, \frac{y_i}{\hat y_i}\Big) < \delta\Big],$$

    and the result is the mean over images. Those without any measurement do not count. A prediction that is not
    positive is wrong. Benchmarks have $1.25^2$ and $1.25^3$ as well.

    Args:
        threshold: $\delta > 1$.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Depths `(batch, height, width)`, `(batch, height, width, 1)` or `(batch, …)`. Pixels without a
            measurement, where it is 0, negative, infinite or NaN, do not count.
        y_pred: Depths of the same shape.
        sample_weight: Weights of images `(batch,)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar between 0 and 1. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If `threshold` is not above 1, or the shapes do not fit.

    Cost: two comparisons per pixel.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.ThresholdAccuracy(1.25)
    y_true, y_pred = np.random.uniform(0.1, 1, size=(2, 4, 16, 16, 1))
    metric.update_state(y_true, y_pred)
    float(metric.result())
    ```

    Reference: David Eigen, Christian Puhrsch, Rob Fergus, *Depth Map Prediction from a Single Image using a
    Multi-Scale Deep Network*, NIPS 2014, arXiv:1406.2283.
    """

    def __init__(
        self,
        threshold: float = 1.25,
        name: str | None = "threshold_accuracy",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.threshold = check_number("threshold", threshold, above=1)

    def image_values(self, y_true, y_pred):
        y, p, there = measured_targets(y_true, y_pred)
        axes = tuple(range(1, len(y.shape)))
        right = ops.logical_and(p < self.threshold * y, y < self.threshold * p)
        right = ops.where(ops.isnan(p), np.nan, ops.cast(right, "float32"))
        return mean_of_samples(right, there), ops.any(there > 0, axis=axes)
