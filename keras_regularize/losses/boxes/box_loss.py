"""What every loss of boxes has in common: the geometry of two boxes."""

import dataclasses
import functools
from typing import Any

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import TINY, maximum, safe_abs
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice

FORMATS = ("xyxy", "xywh", "center_xywh")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Boxes and their targets as `(x1, y1, -x2, -y2)`: of two boxes the larger numbers are the inner corners.

    Coordinates are the first axis, along which a slice is one piece of memory.

    Attributes:
        target: Boxes `(4, …)`.
        box: Boxes `(4, …)`.
    """

    target: Any
    box: Any

    @functools.cached_property
    def corners(self):
        """Of the box in common and of the least one around both; where they are equal each has half the slope."""
        mean, half = 0.5 * (self.box + self.target), 0.5 * safe_abs(self.box - self.target)
        return mean + half, mean - half

    @functools.cached_property
    def union(self):
        """The area that either covers."""
        return area(self.target) + area(self.box) - area(self.corners[0])

    @functools.cached_property
    def iou(self):
        """Intersection over union."""
        return area(self.corners[0]) / maximum(self.union, TINY)


def signed_corners(boxes, box_format):
    """Boxes `(…, 4)` of a format as `(x1, y1, -x2, -y2)`, coordinates first."""
    boxes = ops.moveaxis(boxes, -1, 0)
    first, second = boxes[:2], boxes[2:]
    if box_format == "xywh":
        second = first + second
    elif box_format == "center_xywh":
        first, second = first - 0.5 * second, first + 0.5 * second
    return ops.concatenate([first, -second], axis=0)


def sides(corners):
    """Width and height `(2, …)`, negative where corners are the wrong way round."""
    return -(corners[:2] + corners[2:])


def area(corners):
    """The area, 0 where a side is negative."""
    lengths = ops.relu(sides(corners))
    return lengths[0] * lengths[1]


class BoxLoss(Loss):
    """A loss of boxes `(…, 4)` with one value per box; a subclass overrides `pair_values(pair)`."""

    def __init__(
        self,
        box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.box_format = check_choice("box_format", box_format, FORMATS)

    def pair_values(self, pair: Pair) -> Any:
        """The values `(…)`."""
        raise NotImplementedError

    def call(self, y_true, y_pred):
        targets, boxes = align_targets(y_true, y_pred)
        if len(boxes.shape) < 2 or boxes.shape[-1] != 4:
            raise ValueError(
                "Expected boxes of shape (batch, 4) or (batch, ..., 4). "
                f"Received: y_pred.shape={tuple(boxes.shape)}"
            )
        corners = [signed_corners(x, self.box_format) for x in (targets, boxes)]
        return self.pair_values(Pair(*corners))
