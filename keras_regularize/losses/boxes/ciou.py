"""Intersection over union, the distance of the centres and the ratio of the sides."""

import math

from keras import ops

from keras_regularize.losses.boxes.box_loss import sides
from keras_regularize.losses.boxes.diou import DIoU
from keras_regularize.numerics import maximum
from keras_regularize.registration import export

FLOOR = 1e-7


@export
class CIoU(DIoU):
    r"""Complete intersection over union: overlap, distance of the centres and ratio of the sides.

    With the sides $w, h$ of the target and $\hat w, \hat h$ of the prediction, it adds to `DIoU`

    $$\alpha v, \qquad v = \frac{4}{\pi^2} \Big(\arctan\frac{w}{h} - \arctan\frac{\hat w}{\hat h}\Big)^2, \qquad
      \alpha = \frac{v}{1 - \mathrm{IoU} + v},$$

    where $\alpha$ has no gradient: the shape matters the more, the more the boxes overlap. It is 0 for equal boxes
    and does not change where both are scaled. Heights count as at least 1e-7 in the ratio; below, a predicted
    box has no gradient of its shape.

    A predicted side that is negative counts as 0 in all areas: let the model give `center_xywh` with sizes through
    a softplus or an exponential.

    Args:
        box_format: What the four numbers are: `"xyxy"` two corners, `"xywh"` the least corner and the sides,
            `"center_xywh"` the centre and the sides, as in `keras.utils.bounding_boxes`.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Boxes `(batch, 4)` or `(batch, …, 4)` in any unit of length.
        y_pred: Boxes of the same shape, format and unit.

    Returns:
        With `reduction="none"` one value per box `(batch,)` or `(batch, …)`, else a scalar. Boxes that are padding
        are left out by their weights, `sample_weight` of shape `(batch, …)`.

    Raises:
        ValueError: If `box_format` is none of these, or the shapes do not fit.

    Cost: that of `GIoU` and two arc tangents.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true = np.array([[0.1, 0.1, 0.3, 0.4]])
    kr.losses.CIoU("xywh")(y_true, np.array([[0.6, 0.6, 0.3, 0.2]]))
    ```

    Reference: Zhaohui Zheng and others, *Distance-IoU Loss: Faster and Better Learning for Bounding Box
    Regression*, AAAI 2020, arXiv:1911.08287.
    """

    def __init__(
        self,
        box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ciou",
        dtype: str | None = None,
    ):
        super().__init__(box_format, reduction=reduction, name=name, dtype=dtype)

    def pair_values(self, pair):
        difference = _angle(pair.target) - _angle(pair.box)
        shape = 4.0 / math.pi**2 * difference * difference
        alpha = ops.stop_gradient(shape / maximum(1.0 - pair.iou + shape, FLOOR))
        return super().pair_values(pair) + alpha * shape


def _angle(corners):
    """Of the diagonal, whose slope of 1e7 at a height of 0 would be its gradient."""
    lengths = sides(corners)
    width, height = lengths[0], lengths[1]
    flat = height <= FLOOR
    width = ops.where(flat, ops.stop_gradient(width), width)
    return ops.arctan(width / ops.where(flat, FLOOR, height))
