"""Overlap of centre lines, for tubes and their connections."""

from typing import Any

from keras import ops

from keras_regularize.losses.segmentation.region_loss import RegionLoss, ratio
from keras_regularize.ops.neighbours import pooled
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


def skeleton(x, iterations):
    """Soft centre lines of `(batch, classes, *spatial)`: what an opening takes away, at every depth of erosion."""
    rank = len(x.shape) - 2

    def eroded(x):
        thin = [tuple(3 if axis == i else 1 for i in range(rank)) for axis in range(rank)]
        least = [-pooled(-x, size) for size in thin]
        for other in least[1:]:
            least[0] = ops.minimum(least[0], other)
        return least[0]

    def ridge(x, inner):
        return ops.relu(x - pooled(inner, (3,) * rank))

    inner = eroded(x)
    lines = ridge(x, inner)
    for _ in range(iterations):
        x, inner = inner, eroded(inner)
        found = ridge(x, inner)
        lines = lines + ops.relu(found - lines * found)
    return lines


@export
class ClDice(RegionLoss):
    r"""Centre-line Dice: overlap of each mask with the other's skeleton, so that tubes stay connected.

    With soft skeletons $S(\cdot)$, found by repeated erosion and dilation, probabilities $p$, targets $y$ and
    sums over the pixels of an image, each class contributes

    $$1 - \frac{2\, T_p T_s}{T_p + T_s}, \qquad
      T_p = \frac{\sum S(p)\, y + s}{\sum S(p) + s}, \quad T_s = \frac{\sum S(y)\, p + s}{\sum S(y) + s}.$$

    A gap in a vessel costs as much as its length, not as its few pixels. Use it beside `SoftDice`: the authors
    weigh it by up to ½.

    Args:
        iterations: Erosions; at least half the width of the widest object, in pixels.
        smooth: Number $s \ge 0$ that is added to numerators and denominators.
        include_background: Whether class 0 counts. Without effect for a single channel.
        **kwargs: `class_weights`, `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype`
            as in `losses.RegionLoss` and `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: `(iterations + 1) · (1 + axes of space)` poolings of predictions and targets.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.ClDice(iterations=3, from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Suprosanna Shit and others, *clDice – A Novel Topology-Preserving Loss Function for Tubular
    Structure Segmentation*, CVPR 2021, arXiv:2003.07311.
    """

    def __init__(
        self,
        iterations: int = 3,
        smooth: float = 1.0,
        include_background: bool = False,
        **kwargs: Any,
    ):
        super().__init__(smooth, include_background, **kwargs)
        self.iterations = check_integer("iterations", iterations, 0)

    def class_values(self, pixels):
        p, y = pixels.probabilities, pixels.labels

        def on_lines(mask, other):
            lines = ops.reshape(skeleton(pixels.in_space(mask), self.iterations), ops.shape(mask))
            return ratio(self.total(lines * other), self.total(lines), self.smooth)

        precision, sensitivity = on_lines(p, y), on_lines(y, p)
        return 1.0 - ratio(2.0 * precision * sensitivity, precision + sensitivity)
