"""Intersection over union and the distance of the centres."""

from keras import ops

from keras_regularize.losses.boxes.box_loss import BoxLoss, sides
from keras_regularize.numerics import TINY, maximum
from keras_regularize.registration import export


@export
class DIoU(BoxLoss):
    r"""Distance intersection over union: moves the centre of a box straight to that of its target.

    With the target $B$, the predicted box $\hat B$, the distance $\rho$ of their centres and the diagonal $c$ of
    the least box around both, its value is

    $$1 - \frac{|B \cap \hat B|}{|B \cup \hat B|} + \frac{\rho^2}{c^2} \in [0, 2).$$

    It is 0 for equal boxes and does not change where both are scaled. Boxes far apart move rather than grow, as
    they do by `GIoU`, and need fewer steps. `CIoU` adds the shape.

    A predicted side that is negative counts as 0, and within the target nothing then pulls it open: let the model
    give `center_xywh` with sizes through a softplus or an exponential.

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

    Cost: that of `GIoU`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true = np.array([[0.25, 0.3, 0.3, 0.4]])
    kr.losses.DIoU("center_xywh")(y_true, np.array([[0.75, 0.7, 0.3, 0.2]]))
    ```

    Reference: Zhaohui Zheng and others, *Distance-IoU Loss: Faster and Better Learning for Bounding Box
    Regression*, AAAI 2020, arXiv:1911.08287.
    """

    def __init__(
        self,
        box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "diou",
        dtype: str | None = None,
    ):
        super().__init__(box_format, reduction=reduction, name=name, dtype=dtype)

    def pair_values(self, pair):
        apart = pair.box - pair.target
        twice = apart[:2] - apart[2:]  # The second corners are negative.
        distance = 0.25 * ops.sum(twice * twice, axis=0)
        diagonal = sides(pair.corners[1])
        square = ops.sum(diagonal * diagonal, axis=0)
        return 1.0 - pair.iou + distance / maximum(square, TINY)
