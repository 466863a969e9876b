"""The structural similarity of images."""

from keras_regularize.metrics.images.image_metric import ImageMetric
from keras_regularize.ops.structural_similarity import (
    check_max_value,
    check_window,
    read_images,
    structural_similarity,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class SSIM(ImageMetric):
    r"""Structural similarity of images: of their local means, contrasts and patterns.

    With the Gaussian means $\mu$, variances $\sigma^2$ and covariances of a window of prediction $\hat y$ and
    target $y$, it is the mean over all windows within the image, and over its channels, of

    $$\frac{2 \mu_y \mu_{\hat y} + (0.01 L)^2}{\mu_y^2 + \mu_{\hat y}^2 + (0.01 L)^2} \cdot
      \frac{2 \sigma_{y \hat y} + (0.03 L)^2}{\sigma_y^2 + \sigma_{\hat y}^2 + (0.03 L)^2},$$

    and the result is the mean over images, 1 for equal ones: that of `keras.ops.image.ssim` over all batches.

    Args:
        window: Side of the windows, odd.
        sigma: Standard deviation of their weights in pixels, above 0.
        max_value: The largest number there can be, $L$: 1 or 255.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Images `(batch, height, width, channels)` or `(batch, height, width)`, integers only if `max_value`
            is above 1.
        y_pred: Images of the same shape.
        sample_weight: Weights of images `(batch,)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar between -1 and 1, 0 before the first image, and NaN if a pixel is.

    Raises:
        ValueError: If an argument is out of its range, the shapes do not fit, images are smaller than a window, or
            integers while `max_value` is 1.

    Cost: a Gaussian blur of four images for each.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.SSIM()
    y_true, y_pred = np.random.uniform(0, 1, size=(2, 4, 16, 16, 1))
    metric.update_state(y_true, y_pred)
    float(metric.result())
    ```

    Reference: Zhou Wang and others, *Image Quality Assessment: From Error Visibility to Structural Similarity*,
    IEEE Transactions on Image Processing 2004.
    """

    def __init__(
        self,
        window: int = 11,
        sigma: float = 1.5,
        max_value: float = 1.0,
        name: str | None = "ssim",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.window = check_window(window)
        self.sigma = check_number("sigma", sigma, above=0)
        self.max_value = check_max_value(max_value)

    def image_values(self, y_true, y_pred):
        x, y = read_images(y_true, y_pred, self.max_value)
        return structural_similarity(x, y, self.window, self.sigma, self.max_value), None
