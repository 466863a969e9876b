"""The Dice loss that knows which classes are alike."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.losses.segmentation.region_loss import ratio
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import matmul
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class GeneralizedWassersteinDice(SegmentationLoss):
    r"""Dice loss in which a mistake costs as much as its classes are far apart.

    With a distance $M$ between classes, divided by its maximum, and the Wasserstein distance
    $W_i = \sum_l M_{y_i l}\, p_{i l}$ of pixel $i$ from its label $y_i$,

    $$1 - \frac{2 T + s}{2 T + \sum_i W_i + s}, \qquad T = \sum_i \alpha_{y_i} (1 - W_i), $$

    where $\alpha$ is 0 for the background, class 0, and 1 elsewhere. With `weighting="GDL"`,
    $\alpha_c = 1 / (1 + \sum_i y_{ic})$ and the denominator is $\sum_i \alpha_{y_i} (2 - W_i) + s$. An image of
    background alone costs nearly 1 in the default unless it is perfect.

    Args:
        distance_matrix: Distances $M$ `(classes, classes)`, not negative; usually 0 on the diagonal.
        weighting: `"default"` or `"GDL"`, that of the generalized Dice loss.
        smooth: Number $s \ge 0$ that is added to numerator and denominator.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, the matrix has another size than there are classes, or
            labels and predictions do not fit. One channel counts as two classes.

    Cost: one softmax, if from logits, and a product with a `classes × classes` matrix per pixel.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.GeneralizedWassersteinDice([[0, 1, 1], [1, 0, 0.4], [1, 0.4, 0]], from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Lucas Fidon and others, *Generalised Wasserstein Dice Score for Imbalanced Multi-class
    Segmentation using Holistic Convolutional Networks*, BrainLes 2017, arXiv:1707.00478.
    """

    def __init__(
        self,
        distance_matrix: Any,
        weighting: str = "default",
        smooth: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        matrix = np.asarray(distance_matrix, "float64")
        if (
            matrix.ndim != 2
            or len(set(matrix.shape)) != 1
            or not (matrix >= 0).all()
            or not matrix.any()
        ):
            raise ValueError(
                "`distance_matrix` must be square, of numbers at least 0 that are not all 0. "
                f"Received: distance_matrix={distance_matrix!r}"
            )
        self.distance_matrix = matrix.tolist()
        self._from_label = matrix.T / matrix.max()
        self.weighting = check_choice("weighting", weighting, ("default", "GDL"))
        self.smooth = check_number("smooth", smooth, minimum=0)

    def image_values(self, pixels):
        pixels = pixels.with_background()
        y, p = pixels.labels, pixels.probabilities
        if len(self.distance_matrix) != y.shape[1]:
            raise ValueError(
                f"`distance_matrix` has the distances of {len(self.distance_matrix)} classes. Received: "
                f"predictions of {y.shape[1]} classes"
            )
        from_label = matmul(ops.convert_to_tensor(self._from_label, dtype=y.dtype), y)
        distance = ops.sum(from_label * p, axis=1, keepdims=True)
        if self.weighting == "default":
            alpha = ops.sum(y[:, 1:], axis=1, keepdims=True)
        else:
            alpha = ops.sum(y / (self.total(y)[..., None] + 1.0), axis=1, keepdims=True)
        size, wrong = self.total(alpha), self.total(alpha * distance)
        hits = 2.0 * (size - wrong)
        if self.weighting == "default":
            whole = hits + self.total(distance)
        else:
            whole = 2.0 * size - wrong
        return 1.0 - ratio(hits, whole, self.smooth)[:, 0]
