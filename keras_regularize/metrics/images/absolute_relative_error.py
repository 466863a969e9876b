"""How far depths are off, relative to the depth."""

from keras import ops

from keras_regularize.metrics.images.image_metric import ImageMetric
from keras_regularize.registration import export
from keras_regularize.targets import mean_of_samples, measured_targets


@export
class AbsoluteRelativeError(ImageMetric):
    r"""Mean error of depths relative to the depth, "abs rel" of depth benchmarks.

    With the depths $y_i$ and predictions $\hat y_i$ of the pixels of an image that have a depth, its value is

    $$\operatorname*{mean}_i \frac{|\hat y_i - y_i|}{y_i},$$

    and the result is the mean over images. Those without any measurement do not count.

    Args:
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Depths `(batch, height, width)`, `(batch, height, width, 1)` or `(batch, …)`. Pixels without a
            measurement, where it is 0, negative, infinite or NaN, do not count.
        y_pred: Depths of the same shape.
        sample_weight: Weights of images `(batch,)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar of at least 0. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a division per pixel.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.AbsoluteRelativeError()
    y_true, y_pred = np.random.uniform(0.1, 1, size=(2, 4, 16, 16, 1))
    metric.update_state(y_true, y_pred)
    float(metric.result())
    ```

    Reference: David Eigen, Christian Puhrsch, Rob Fergus, *Depth Map Prediction from a Single Image using a
    Multi-Scale Deep Network*, NIPS 2014, arXiv:1406.2283.
    """

    def __init__(
        self,
        name: str | None = "absolute_relative_error",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)

    def image_values(self, y_true, y_pred):
        y, p, there = measured_targets(y_true, y_pred)
        axes = tuple(range(1, len(y.shape)))
        return mean_of_samples(ops.absolute(p - y) / y, there), ops.any(there > 0, axis=axes)
