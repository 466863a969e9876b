"""One minus the structural similarity of images."""

from keras_regularize.losses.loss import Loss
from keras_regularize.ops.structural_similarity import (
    check_max_value,
    check_window,
    read_images,
    structural_similarity,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class SSIM(Loss):
    r"""One minus the structural similarity of images: local means, contrasts and patterns instead of pixels.

    With the Gaussian means $\mu$, variances $\sigma^2$ and covariances of a window of prediction $\hat y$ and
    target $y$, it is one minus the mean over all windows within the image, and over its channels, of

    $$\frac{2 \mu_y \mu_{\hat y} + (0.01 L)^2}{\mu_y^2 + \mu_{\hat y}^2 + (0.01 L)^2} \cdot
      \frac{2 \sigma_{y \hat y} + (0.03 L)^2}{\sigma_y^2 + \sigma_{\hat y}^2 + (0.03 L)^2},$$

    the similarity that `keras.ops.image.ssim` and `tf.image.ssim` give. Blurring costs more than by squared error,
    a slight change of brightness less. It is often mixed with absolute error (Zhao et al.).

    Args:
        window: Side of the windows, odd.
        sigma: Standard deviation of their weights in pixels, above 0.
        max_value: The largest number there can be, $L$: 1 or 255.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Images `(batch, height, width, channels)` or `(batch, height, width)`, integers only if `max_value`
            is above 1.
        y_pred: Images of the same shape.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, between 0 and 2; else a scalar.

    Raises:
        ValueError: If an argument is out of its range, the shapes do not fit, images are smaller than a window, or
            integers while `max_value` is 1.

    Cost: a Gaussian blur of four images for each.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true = np.random.uniform(size=(2, 16, 16, 3))
    kr.losses.SSIM()(y_true, np.random.uniform(size=(2, 16, 16, 3)))
    ```

    Reference: Zhou Wang and others, *Image Quality Assessment: From Error Visibility to Structural Similarity*,
    IEEE Transactions on Image Processing 2004; as a loss: Hang Zhao and others, *Loss Functions for
    Image Restoration with Neural Networks*, IEEE Transactions on Computational Imaging 2017, arXiv:1511.08861.
    """

    def __init__(
        self,
        window: int = 11,
        sigma: float = 1.5,
        max_value: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ssim",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.window = check_window(window)
        self.sigma = check_number("sigma", sigma, above=0)
        self.max_value = check_max_value(max_value)

    def call(self, y_true, y_pred):
        x, y = read_images(y_true, y_pred, self.max_value)
        return 1.0 - structural_similarity(x, y, self.window, self.sigma, self.max_value)
