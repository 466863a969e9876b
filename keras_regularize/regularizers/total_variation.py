"""Total variation of images that a layer gives out."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import safe_abs, safe_sqrt, upcast
from keras_regularize.ops.differences import forward_differences
from keras_regularize.registration import export
from keras_regularize.regularizers.activity import to_be_divided
from keras_regularize.validation import check_number, compatible


@export
class TotalVariation(Configured, keras.regularizers.Regularizer):
    r"""Sum of the sizes of an image's gradient: favours images of few flat pieces with sharp edges.

    With the differences $D_h x, D_w x$ to the next row and column, 0 at the last ones,

    $$\lambda\, \frac1B \sum_{\text{images}} \sum_i w_i\, \big(|D x|_i^2 + \epsilon^2\big)^{q/2},\qquad
      |Dx|_i^2 = (D_h x)_i^2 + (D_w x)_i^2,$$

    channel by channel. If not isotropic, the two directions are summed instead: $((D_h x)_i^2 + \epsilon^2)^{q/2}
    + ((D_w x)_i^2 + \epsilon^2)^{q/2}$. Flat pixels have gradient 0 also without $\epsilon$.

    As an activity regularizer it returns the sum over the batch, because Keras divides activity losses by the
    batch size, and the mean itself before Keras 3.14, which did not.

    Args:
        factor: $\lambda \ge 0$.
        isotropic: Whether edges of all directions cost the same.
        epsilon: $\epsilon \ge 0$, in units of the image, rounds the corner at flat pixels. Every pixel then costs
            $\epsilon^q$ at least.
        exponent: $q > 0$. Below 1 large jumps are cheaper still; give an `epsilon` then, the slope at flat pixels
            is infinite.
        weights: $w \ge 0$, nested lists or an array `(height, width)` or `(height, width, channels)`; `None` for
            1. `kr.inverse.space_variant_weights` finds them.

    Input: images `(batch, height, width, channels)`, the outputs of a layer. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, an exponent below 1 has no `epsilon`, or the input is no batch
            of images or does not fit the weights.

    Cost: a few elementwise passes over the images.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(1, 3, activity_regularizer=kr.regularizers.TotalVariation(1e-4))
    ```

    Reference: Leonid I. Rudin, Stanley Osher and Emad Fatemi, *Nonlinear total variation based noise removal
    algorithms*, Physica D 1992; the weights: Elena Morotti, Davide Evangelista, Andrea Sebastiani and Elena
    Loli Piccolomini, *Space-Variant Total Variation boosted by learning techniques in few-view tomographic
    imaging*, 2024, arXiv:2404.16900.
    """

    def __init__(
        self,
        factor: float = 1.0,
        isotropic: bool = True,
        epsilon: float = 0.0,
        exponent: float = 1.0,
        weights: Any = None,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.isotropic = bool(isotropic)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        self.exponent = check_number("exponent", exponent, above=0)
        if self.exponent < 1 and not self.epsilon:
            raise ValueError(
                "`exponent` below 1 needs an `epsilon` above 0: its slope at flat pixels is infinite. "
                f"Received: exponent={exponent}, epsilon={epsilon}"
            )
        self.weights = self._array = None
        if weights is not None:
            self._array = _check_weights(weights)  # Lists take long to convert.
            self.weights = self._array.tolist()

    def __call__(self, x: Any) -> Any:
        x = upcast(x)
        if len(x.shape) != 4:
            raise ValueError(
                "`TotalVariation` is of images (batch, height, width, channels). "
                f"Received: shape={tuple(x.shape)}"
            )
        values = self._sizes(forward_differences(x, 1), forward_differences(x, 2))
        if self.weights is not None:
            values = values * self._weights_for(x)
        return self.factor * to_be_divided(ops.sum(values), x)

    def _sizes(self, down, right):
        if self.isotropic:
            return self._power(down * down + right * right)
        if self.exponent == 1 and not self.epsilon:
            return safe_abs(down) + safe_abs(right)
        return self._power(down * down) + self._power(right * right)

    def _power(self, squares):
        if self.epsilon:
            squares = squares + self.epsilon**2
        if self.exponent == 2:
            return squares
        root = safe_sqrt(squares)
        return root if self.exponent == 1 else root**self.exponent

    def _weights_for(self, x):
        weights = ops.cast(ops.convert_to_tensor(self._array), x.dtype)
        if len(weights.shape) == 2:
            weights = weights[..., None]
        alike = compatible((*weights.shape[:2], None), x.shape[1:])
        if not alike or weights.shape[-1] not in (1, x.shape[-1]):
            raise ValueError(
                "`weights` must be of shape (height, width) or (height, width, channels) as the images. "
                f"Received: weights of shape {tuple(weights.shape)} for images of shape {tuple(x.shape)}"
            )
        return weights


def _check_weights(weights):
    array = np.asarray(ops.convert_to_numpy(weights), float)
    if array.ndim not in (2, 3) or not np.all((array >= 0) & np.isfinite(array)):
        raise ValueError(
            "`weights` must be finite, at least 0, and of shape (height, width) or (height, width, channels). "
            f"Received: weights={weights!r}"
        )
    return array
