"""The robust T-loss with degrees of freedom that are learnt."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.losses.segmentation.t_loss import flat_errors
from keras_regularize.registration import export
from keras_regularize.validation import check_number

_SHIFT = 8  # From where on three terms of Stirling's series are exact in float32.


@export
class TLossEndpoint(Configured, keras.layers.Layer):
    r"""Adds `losses.TLoss` of masks to the loss in training, and learns its degrees of freedom.

    $$-\operatorname*{mean}_{\text{images}} \log t_\nu(y - p),$$

    with the density $t_\nu$ of a multivariate Student t distribution of unit scale for all pixels of an image. The
    model finds itself how heavy the tails of the errors are, that is how much a mask that is all wrong may push.
    The loss of an image is a sum over its pixels, often in the thousands and for good masks below 0. Weights of
    samples do not reach it.

    Args:
        nu: Degrees of freedom $\nu > 0$ at the start; the authors start at 1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Attributes:
        log_nu: Trainable variable, $\log \nu$.

    Input: `[y_pred, labels]`: probabilities `(batch, *spatial)` or `(batch, *spatial, channels)`, for instance of
    a sigmoid, and masks between 0 and 1 of the same shape, of which a last axis of size one may be missing; or
    `y_pred` alone at inference. Output: `y_pred`.

    Raises:
        ValueError: If `nu` is not positive, masks are missing in training or hold ids above 1, or shapes do not
            fit or are unknown but for the batch.

    Cost: one pass over the errors.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, masks = keras.Input((16, 16, 3)), keras.Input((16, 16, 1), optional=True)
    p = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    p = kr.layers.TLossEndpoint()([p, masks])
    model = kr.models.WithLabels(keras.Model([x, masks], p))
    model.compile("adam")
    model.fit(np.random.normal(size=(4, 16, 16, 3)), np.ones((4, 16, 16, 1)), verbose=0)
    ```

    Reference: Alvaro Gonzalez-Jimenez and others, *Robust T-Loss for Medical Image Segmentation*, MICCAI 2023,
    arXiv:2306.00753.
    """

    def __init__(self, nu: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.nu = check_number("nu", nu, above=0)
        self.autocast = False  # Masks stay exact, and errors are summed in full precision.

    def build(self, input_shape: Any) -> None:
        self.log_nu = self.add_weight(
            (), keras.initializers.Constant(math.log(self.nu)), autocast=False, name="log_nu"
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        y_pred, masks = features_and_labels(self, inputs, training, 2)
        if masks is not None:
            errors = flat_errors(masks, y_pred)
            nu = ops.exp(ops.cast(self.log_nu, errors.dtype))
            squares = ops.sum(errors * errors, axis=-1)
            add_float_loss(self, ops.mean(negative_log_t(squares, errors.shape[-1], nu)))
        return ops.cast(y_pred, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return features_shape(input_shape)


def negative_log_t(squares, size, nu):
    """Of errors of the given squared norm in `size` dimensions: no term is much larger than the sum."""
    exponent = nu / 2 * ops.log1p(squares / nu) - (nu - 1) / 2 * ops.log1p(size / nu)
    spread = size / 2 * (1 + ops.log(2 * math.pi * (nu + squares) / (nu + size)))
    return spread + exponent + _stirling_error(nu / 2) - _stirling_error((nu + size) / 2)


def _stirling_error(z):
    """`log Γ(z) - (z - ½) log z + z - ½ log 2π`, by its recursion from `z + 8`."""
    far = z + _SHIFT
    error = 1 / (12 * far) - 1 / (360 * far**3) + 1 / (1260 * far**5)
    for k in range(_SHIFT):
        error = error + (z + k + 0.5) * ops.log1p(1 / (z + k)) - 1
    return error
