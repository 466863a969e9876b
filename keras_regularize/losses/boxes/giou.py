"""Intersection over union that tells how far apart boxes are, by the box around both."""

from keras_regularize.losses.boxes.box_loss import BoxLoss, area
from keras_regularize.numerics import TINY, maximum
from keras_regularize.registration import export


@export
class GIoU(BoxLoss):
    r"""Generalized intersection over union: pulls boxes together that do not overlap yet.

    With the target $B$, the predicted box $\hat B$ and the least box $C$ around both, its value is

    $$1 - \frac{|B \cap \hat B|}{|B \cup \hat B|} + \frac{|C| - |B \cup \hat B|}{|C|} \in [0, 2).$$

    It is 0 for equal boxes and does not change where both are scaled. Without an intersection the last term has a
    gradient, which intersection over union alone has not: at first the prediction grows towards the target.

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

    Cost: about thirty elementwise operations.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true = np.array([[0.1, 0.1, 0.4, 0.5]])
    kr.losses.GIoU()(y_true, np.array([[0.6, 0.6, 0.9, 0.8]]))
    ```

    Reference: Hamid Rezatofighi and others, *Generalized Intersection over Union: A Metric and A Loss for Bounding
    Box Regression*, CVPR 2019, arXiv:1902.09630.
    """

    def __init__(
        self,
        box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "giou",
        dtype: str | None = None,
    ):
        super().__init__(box_format, reduction=reduction, name=name, dtype=dtype)

    def pair_values(self, pair):
        hull = area(pair.corners[1])
        return 1.0 - pair.iou + (hull - pair.union) / maximum(hull, TINY)
