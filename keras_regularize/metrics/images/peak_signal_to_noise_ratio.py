"""The peak signal-to-noise ratio of images."""

import math

from keras import ops

from keras_regularize.metrics.images.image_metric import ImageMetric
from keras_regularize.numerics import GUARD, maximum, mean
from keras_regularize.ops.structural_similarity import check_max_value, read_images
from keras_regularize.registration import export


@export
class PeakSignalToNoiseRatio(ImageMetric):
    r"""Peak signal-to-noise ratio: the mean squared error of an image on the scale of decibels.

    With the largest number $L$ that there can be, its value for an image is

    $$10 \log_{10} \frac{L^2}{\operatorname{mean} (\hat y - y)^2},$$

    120 at most, which an image without any error has, and the result is the mean over images.
    `keras.ops.psnr` is of the mean squared error of a whole batch, which a few bad images rule.

    Args:
        max_value: The largest number there can be, $L$: 1 or 255.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Images `(batch, height, width, channels)` or `(batch, height, width)`, integers only if `max_value`
            is above 1.
        y_pred: Images of the same shape.
        sample_weight: Weights of images `(batch,)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar in decibels, 0 before the first image. A pixel that is NaN makes it NaN.

    Raises:
        ValueError: If `max_value` is not positive, the shapes do not fit, or images are integers while `max_value`
            is 1.

    Cost: that of squared error.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.PeakSignalToNoiseRatio()
    y_true, y_pred = np.random.uniform(0, 1, size=(2, 4, 16, 16, 1))
    metric.update_state(y_true, y_pred)
    float(metric.result())
    ```

    Reference: Zhou Wang, Alan C. Bovik, *Mean Squared Error: Love It or Leave It? A New Look at Signal Fidelity
    Measures*, IEEE Signal Processing Magazine 2009.
    """

    def __init__(
        self,
        max_value: float = 1.0,
        name: str | None = "peak_signal_to_noise_ratio",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.max_value = check_max_value(max_value)

    def image_values(self, y_true, y_pred):
        x, y = read_images(y_true, y_pred, self.max_value)
        error = mean(ops.square((x - y) / self.max_value), axis=(1, 2, 3))
        return -10.0 / math.log(10.0) * ops.log(maximum(error, GUARD)), None
