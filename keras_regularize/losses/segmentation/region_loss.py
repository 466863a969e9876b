"""Losses that compare sums over regions, class by class."""

import dataclasses
import math
from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.segmentation_loss import Pixels, SegmentationLoss
from keras_regularize.numerics import TINY, mean
from keras_regularize.validation import check_number


def ratio(numerator, denominator, smooth=0.0):
    """The quotient with `smooth` added to both, and 1 for 0/0: an absent class that is not predicted is right."""
    if smooth > TINY:
        return (numerator + smooth) / (denominator + smooth)
    empty = denominator == 0
    return ops.where(empty, 1.0, numerator / ops.where(empty, 1.0, denominator))


class RegionLoss(SegmentationLoss):
    """A loss per class and its mean over the classes: a base for overlaps of regions.

    A subclass overrides `class_values(pixels)` with losses `(batch, classes)`, or `(1, classes)` for the whole
    batch.

    Args:
        smooth: Number that is added to numerators and denominators. At 0 an absent class that is not predicted
            at all still counts as perfect.
        include_background: Whether class 0 counts. Without effect for a single channel.
        class_weights: Numbers by which the losses of the classes that count are multiplied before their mean,
            which is not divided by the sum of weights; or `None`.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Raises:
        ValueError: If an argument is out of its range, `class_weights` has another length than there are classes
            that count, or labels and predictions do not fit.

    Cost: one softmax, if from logits, and a few passes over the predictions.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class Missed(kr.losses.RegionLoss):
        "Share of each class that is not found."

        def class_values(self, pixels):
            overlap, _, size = self.overlaps(pixels)
            return 1.0 - (overlap + self.smooth) / (size + self.smooth)


    loss = Missed(class_weights=[1.0, 5.0], from_logits=True)
    loss(np.array([[0, 1, 1]]), np.zeros((1, 3, 2), "float32"))  # (1 · 0.5 + 5 · 0.5) / 2 = 1.5
    ```
    """

    def __init__(
        self,
        smooth: float = 1e-5,
        include_background: bool = True,
        class_weights: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.smooth = check_number("smooth", smooth, minimum=0)
        self.include_background = bool(include_background)
        self.class_weights = check_weights(class_weights)

    def class_values(self, pixels: Pixels) -> Any:
        """Losses `(batch, classes)`, or `(1, classes)` for the whole batch."""
        raise NotImplementedError

    def overlaps(self, pixels: Pixels) -> tuple[Any, Any, Any]:
        """Sums over space of `p y`, of `p` and of `y`."""
        p, y = pixels.probabilities, pixels.labels
        return self.total(p * y), self.total(p), self.total(y)

    def image_values(self, pixels):
        values = self.class_values(self.of_classes(pixels))
        return mean(weighted(values, self.class_weights), axis=-1)

    def of_classes(self, pixels: Pixels) -> Pixels:
        """The pixels without the channel of the background, if that does not count."""
        if self.include_background or pixels.scores.shape[1] == 1:
            return pixels
        return dataclasses.replace(
            pixels,
            targets=pixels.targets[:, 1:],
            scores=pixels.probabilities[:, 1:],
            from_logits=False,
        )


def check_weights(class_weights):
    """The weights of classes as plain numbers."""
    if class_weights is None:
        return None
    weights = [float(weight) for weight in class_weights]
    if not weights or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(
            "`class_weights` must be a list of numbers at least 0, one per class, or None. "
            f"Received: class_weights={class_weights!r}"
        )
    return weights


def weighted(values, class_weights):
    """`values (…, classes)` times the weights of the classes."""
    if class_weights is None:
        return values
    if len(class_weights) != values.shape[-1]:
        raise ValueError(
            "`class_weights` must have one number per class that counts. Received: "
            f"{len(class_weights)} weights for {values.shape[-1]} classes"
        )
    return values * ops.convert_to_tensor(class_weights, dtype=values.dtype)
