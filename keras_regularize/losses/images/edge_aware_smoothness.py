"""Roughness of a depth map where its image is smooth."""

import keras
from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import mean, safe_abs, upcast
from keras_regularize.registration import export
from keras_regularize.validation import compatible


@export
class EdgeAwareSmoothness(Loss):
    r"""Roughness of a predicted disparity where the image it belongs to has no edges: needs no depths.

    With the disparities $\hat d$ of an image divided by their mean size, the image $I$ and the differences
    $\partial_x, \partial_y$ of neighbouring pixels, its value is

    $$\operatorname{mean} |\partial_x \hat d|\, e^{-|\partial_x I|} +
      \operatorname{mean} |\partial_y \hat d|\, e^{-|\partial_y I|},$$

    where $|\partial I|$ is the mean over the channels. The division keeps disparities from shrinking. It is a
    penalty beside another loss of a second output of the model with the same disparities, as in the example.

    Args:
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Images `(batch, height, width, channels)` or `(batch, height, width)` with floating values, by
            convention between 0 and 1.
        y_pred: Disparities `(batch, height, width)` or `(batch, height, width, 1)`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If the sizes of images and disparities differ or are below 2, or the images are integers.

    Cost: a few passes over the pixels.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    image = keras.Input((16, 16, 3))
    disparity = keras.layers.Conv2D(1, 3, padding="same", activation="softplus")(image)
    model = keras.Model(image, {"depth": disparity, "smooth": disparity})
    losses = {"depth": kr.losses.ScaleShiftInvariant(), "smooth": kr.losses.EdgeAwareSmoothness()}
    model.compile("adam", losses, loss_weights={"depth": 1.0, "smooth": 0.01})
    x, y = np.random.uniform(size=(4, 16, 16, 3)), np.random.uniform(0.1, 1, size=(4, 16, 16))
    model.fit(x, {"depth": y, "smooth": x}, verbose=0)
    ```

    Reference: Clément Godard, Oisin Mac Aodha, Gabriel J. Brostow, *Unsupervised Monocular Depth Estimation with
    Left-Right Consistency*, CVPR 2017, arXiv:1609.03677; the division by the mean: Clément Godard and others,
    *Digging Into Self-Supervised Monocular Depth Estimation*, ICCV 2019, arXiv:1806.01260.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "edge_aware_smoothness",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        image, disparity = self._read(y_true, y_pred)
        size = mean(safe_abs(disparity), axis=(1, 2), keepdims=True)
        disparity = disparity / ops.where(size > 0, size, 1.0)
        return _roughness(image, disparity, 1) + _roughness(image, disparity, 2)

    def _read(self, y_true, y_pred):
        """Images `(batch, height, width, channels)` and disparities `(batch, height, width)`."""
        image, disparity = ops.convert_to_tensor(y_true), upcast(y_pred)
        shapes = tuple(image.shape), tuple(disparity.shape)
        if len(shapes[1]) == 4 and shapes[1][-1] == 1:
            disparity = disparity[..., 0]
        if len(shapes[0]) == 3:
            image = image[..., None]
        fits = len(disparity.shape) == 3 and compatible(image.shape[:-1], disparity.shape)
        if not fits or any(size is not None and size < 2 for size in disparity.shape[1:]):
            raise ValueError(
                "Expected images (batch, height, width, channels) and disparities (batch, height, width, 1) of at "
                f"least 2 × 2 pixels. Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
            )
        dtype = keras.backend.standardize_dtype(image.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "Expected images of floating values, by convention between 0 and 1. "
                f"Received: y_true.dtype={dtype}"
            )
        return ops.cast(image, disparity.dtype), disparity


def _roughness(image, disparity, axis):
    """Means `(batch,)` along an axis."""

    def differences(x):
        before = (slice(None),) * axis
        return x[(*before, slice(1, None))] - x[(*before, slice(None, -1))]

    edges = mean(ops.absolute(differences(image)), axis=-1)
    return mean(safe_abs(differences(disparity)) * ops.exp(-edges), axis=(1, 2))
