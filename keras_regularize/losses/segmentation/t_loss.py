"""Negative log-likelihood of a Student t distribution of the errors of a whole mask."""

import math

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number, compatible


def flat_errors(y_true, y_pred):
    """`y_pred - y_true` as vectors `(batch, positions)`."""
    y_pred = upcast(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    shapes = tuple(y_true.shape), tuple(y_pred.shape)
    if len(shapes[0]) == len(shapes[1]) - 1 and shapes[1][-1] == 1:
        y_true = ops.expand_dims(y_true, -1)
    elif len(shapes[0]) == len(shapes[1]) + 1 and shapes[0][-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    known = all(size is not None for size in shapes[1][1:])
    if len(shapes[1]) < 2 or not known or not compatible(tuple(y_true.shape), shapes[1]):
        raise ValueError(
            "Expected masks and predictions of equal shapes (batch, *spatial) or (batch, *spatial, channels). "
            f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
        )
    return ops.reshape(y_pred - y_true, (-1, math.prod(shapes[1][1:])))


@export
class TLoss(Loss):
    r"""Negative log-likelihood of a mask's errors under a Student t distribution: robust to wrong masks.

    With the errors $\delta$ of all $D$ pixels of an image and $\nu$ degrees of freedom, its value is

    $$\frac{\nu + D}{2} \log\Big(1 + \frac{\lVert\delta\rVert^2}{\nu}\Big) + \log \Gamma\big(\tfrac\nu2\big)
      - \log \Gamma\big(\tfrac{\nu + D}{2}\big) + \frac D2 \log (\pi \nu).$$

    The gradient, $(\nu + D)\, \delta / (\nu + \lVert\delta\rVert^2)$, falls with the size of the error: a mask
    that is all wrong pushes less than one that is half wrong. A large $\nu$ gives half the squared error and a
    constant. `layers.TLossEndpoint` learns $\nu$.

    Args:
        nu: Degrees of freedom $\nu > 0$.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Masks between 0 and 1 `(batch, *spatial)`, or `(batch, *spatial, channels)` of any number of
            channels.
        y_pred: Probabilities of the same shape, for instance of a sigmoid. A last axis of size one may be missing.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If `nu` is not positive, or the shapes do not fit or are unknown but for the batch.

    Cost: one pass over the errors.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true = np.random.randint(0, 2, size=(2, 16, 16))
    kr.losses.TLoss()(y_true, np.random.uniform(size=(2, 16, 16, 1)))
    ```

    Reference: Alvaro Gonzalez-Jimenez and others, *Robust T-Loss for Medical Image Segmentation*, MICCAI 2023,
    arXiv:2306.00753.
    """

    def __init__(
        self,
        nu: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "t_loss",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.nu = check_number("nu", nu, above=0)

    def call(self, y_true, y_pred):
        errors = flat_errors(y_true, y_pred)
        size = errors.shape[-1]
        constant = math.lgamma(self.nu / 2) - math.lgamma((self.nu + size) / 2)
        constant += size / 2 * math.log(math.pi * self.nu)
        squares = ops.sum(errors * errors, axis=-1)
        return (self.nu + size) / 2 * ops.log1p(squares / self.nu) + constant
