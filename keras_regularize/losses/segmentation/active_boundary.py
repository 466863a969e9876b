"""A loss that moves predicted boundaries towards those of the target."""

import itertools
import math
from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import minimum
from keras_regularize.ops import euclidean_distance_transform
from keras_regularize.ops.neighbours import moved
from keras_regularize.registration import export
from keras_regularize.validation import check_number

# In this order, the first of several nearest directions counts.
STEPS = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))


@export
class ActiveBoundary(SegmentationLoss):
    r"""Active boundary loss: at the predicted boundary, the class should change towards that of the target.

    The predicted boundary are the pixels whose class distribution differs most from those below and to the right,
    dilated by one pixel: the share of them that `maximum_boundary_ratio` allows, by a threshold on the sum of the
    two Kullback–Leibler divergences that rises by factors of 1.2. With the distance $D$ of every pixel to the
    target's boundary, each predicted one has as its class, among eight, the direction of the neighbour with the
    least $D$, and as logits the divergences $\operatorname{KL}(P_{\text{neighbour}} \| P)$, constant in the
    neighbour:

    $$\operatorname*{mean}_i \frac{\min(D_i, D_{\max})}{D_{\max}}\, \operatorname{CE}_i,$$

    over the boundary pixels that are not nearest themselves, of the whole batch, and 0 if there is none. The
    target of the cross-entropy is $1 - \lambda$ in the direction and $\lambda / 8$ in the others, as in the
    authors' code, which rounds distances down; here they are exact. Use it beside cross-entropy and
    `LovaszSoftmax`, not alone.

    Args:
        maximum_boundary_ratio: Pixels above the threshold in the batch, relative to those of one image, at most.
        maximum_distance: Distance $D_{\max} > 0$, in pixels, from where on all weigh the same.
        label_smoothing: Smoothing $\lambda$ of the directions, in [0, 1].
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids `(batch, height, width)` or one-hot rows `(batch, height, width, classes)`.
        y_pred: Logits `(batch, height, width, classes)`; a single channel is that of the foreground.

    Returns:
        With `reduction="none"` the value of the batch for each image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, the shapes do not fit, or there are not two axes of space.

    Cost: about twenty passes over the logits and one distance transform of the targets.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.ActiveBoundary()
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Chi Wang and others, *Active Boundary Loss for Semantic Segmentation*, AAAI 2022, arXiv:2102.02696.
    """

    def __init__(
        self,
        maximum_boundary_ratio: float = 0.01,
        maximum_distance: float = 20.0,
        label_smoothing: float = 0.2,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "active_boundary",
        dtype: str | None = None,
    ):
        super().__init__(False, True, name=name, reduction=reduction, dtype=dtype)
        self.maximum_boundary_ratio = check_number(
            "maximum_boundary_ratio", maximum_boundary_ratio, above=0, maximum=1
        )
        self.maximum_distance = check_number("maximum_distance", maximum_distance, above=0)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def image_values(self, pixels):
        if len(pixels.spatial) != 2:
            raise ValueError(
                "Expected images with two axes of space, (batch, height, width, classes). Received: "
                f"{len(pixels.spatial)} axes of space"
            )
        pixels = pixels.with_background()
        log_p = pixels.in_space(pixels.log_probabilities)
        distance = self._distances(pixels.in_space(pixels.targets))
        border = self._predicted_border(ops.stop_gradient(log_p), math.prod(pixels.spatial))
        around = [moved(distance, step, 1e5) for step in (*STEPS, (0, 0))]
        direction = ops.argmin(ops.concatenate(around, axis=1), axis=1)
        kept = ops.cast(ops.logical_and(border, direction < len(STEPS)), log_p.dtype)
        weight = kept * minimum(distance[:, 0], self.maximum_distance) / self.maximum_distance
        values = ops.sum(weight * self._crossentropy(log_p, direction))
        number = ops.sum(kept)
        return ops.reshape(values / ops.where(number > 0, number, 1.0), (1,))

    def _distances(self, targets):
        """To the nearest pixel of the target's boundary, less 1: `(batch, 1, height, width)`."""
        border = False
        for axis in (2, 3):
            after = (slice(None),) * axis + (slice(1, None),)
            before = (slice(None),) * axis + (slice(None, -1),)
            changes = ops.any(ops.not_equal(targets[after], targets[before]), axis=1)
            rim = [(0, 0)] * 3
            rim[axis - 1] = (0, 1)
            border = ops.logical_or(border, ops.pad(changes, rim, constant_values=False))
        distance = euclidean_distance_transform(ops.logical_not(border))
        return ops.cast(ops.relu(distance - 1.0), targets.dtype)[:, None]

    def _predicted_border(self, log_p, number):
        """Bools `(batch, height, width)`: where divergences are largest, and their neighbours."""
        score: Any = 0.0
        for axis in (2, 3):
            first = log_p[(slice(None),) * axis + (slice(None, -1),)]
            second = log_p[(slice(None),) * axis + (slice(1, None),)]
            rim = [(0, 0)] * 3
            rim[axis - 1] = (0, 1)
            score = score + ops.pad(divergence(first, second)[:, 0], rim)
        allowed = self.maximum_boundary_ratio * number

        def too_many(threshold):
            return ops.sum(ops.cast(score > threshold, "float32")) > allowed

        start = ops.convert_to_tensor(1e-5, dtype=score.dtype)
        threshold = ops.while_loop(too_many, lambda t: (t * 1.2,), (start,))[0]
        marks = ops.cast(score > threshold, score.dtype)[:, None]
        near = itertools.accumulate([moved(marks, step) for step in (*STEPS, (0, 0))], ops.maximum)
        return [*near][-1][:, 0] > 0

    def _crossentropy(self, log_p, direction):
        """Of the direction, `(batch, height, width)`."""
        padded = ops.stop_gradient(log_p)
        for axis in (2, 3):  # Repeats the rim, for which `ops.pad` has no mode on torch.
            here = (slice(None),) * axis
            first, last = padded[(*here, slice(None, 1))], padded[(*here, slice(-1, None))]
            padded = ops.concatenate([first, padded, last], axis=axis)
        height, width = log_p.shape[2:]
        logits = [
            divergence(padded[:, :, 1 + i : 1 + i + height, 1 + j : 1 + j + width], log_p)
            for i, j in STEPS
        ]
        log_q = ops.log_softmax(ops.concatenate(logits, axis=1), axis=1)
        one_hot = ops.one_hot(direction, len(STEPS), axis=1, dtype=log_q.dtype)
        smooth = self.label_smoothing
        target = (1.0 - smooth) * one_hot + smooth / len(STEPS) * (1.0 - one_hot)
        return -ops.sum(target * log_q, axis=1)


def divergence(log_p, log_q):
    """`KL(p‖q)` over the axis of classes, kept."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=1, keepdims=True)
