"""The Lovász extension of the Jaccard loss, for probabilities and for scores."""

from typing import Any

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import Labels, read_targets
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import cumsum, safe_abs
from keras_regularize.registration import export
from keras_regularize.validation import check_choice


def extension(errors, targets):
    """`Σ_k e_(k) (J_k - J_(k-1))` over the last axis: the Jaccard loss continued to errors between 0 and 1.

    The largest errors come first; `J_k` is the Jaccard loss of a prediction that is wrong at the first `k` pixels.
    """
    order = ops.argsort(-ops.stop_gradient(errors), axis=-1)
    y = backend.take_last(targets, order)
    size = ops.sum(y, axis=-1, keepdims=True)
    found = cumsum(y)
    position = ops.cast(ops.arange(1, ops.shape(y)[-1] + 1), y.dtype)
    jaccard = 1.0 - (size - found) / (size + position - found)
    steps = ops.concatenate([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], axis=-1)
    return ops.sum(backend.take_last(errors, order) * ops.stop_gradient(steps), axis=-1)


@export
class LovaszSoftmax(SegmentationLoss):
    r"""Lovász extension of the Jaccard loss: exact at hard predictions, convex in the errors between them.

    For each class, the errors $e = |y - p|$ of the pixels of an image are sorted descendingly, with
    $J_k$ the Jaccard loss of a prediction that is wrong at the first $k$ of them and right elsewhere:

    $$\sum_k e_{(k)} (J_k - J_{k-1}), \qquad
      J_k = 1 - \frac{G - \sum_{i \le k} y_{(i)}}{G + \sum_{i \le k} (1 - y_{(i)})}, \quad G = \sum y.$$

    The value of an image is the mean over the classes that are present in it; of one that has none, as all is to
    be ignored, 0. Hard predictions have one minus their intersection over union, without smoothing. Order and
    steps of $J$ are constants of the gradient.

    Args:
        classes: `"present"`, or `"all"` to count absent classes too, whose loss is the largest error.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            the foreground's share `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: a sort of the pixels per class, and a few passes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.LovaszSoftmax(from_logits=True, ignore_class=255)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Maxim Berman, Amal Rannen Triki, Matthew B. Blaschko, *The Lovász-Softmax loss: A tractable
    surrogate for the optimization of the intersection-over-union measure in neural networks*, CVPR 2018,
    arXiv:1705.08790.
    """

    def __init__(self, classes: str = "present", **kwargs: Any):
        super().__init__(**kwargs)
        self.classes = check_choice("classes", classes, ("present", "all"))

    def image_values(self, pixels):
        targets = self.grouped(pixels.labels)
        values = extension(safe_abs(targets - self.grouped(pixels.probabilities)), targets)
        counts = (
            ops.sum(targets, axis=-1) > 0 if self.classes == "present" else ops.ones_like(values)
        )
        counts = ops.cast(counts, values.dtype)
        number = ops.sum(counts, axis=-1)
        return ops.sum(values * counts, axis=-1) / ops.where(number > 0, number, 1.0)


@export
class LovaszHinge(SegmentationLoss):
    r"""Lovász extension of the Jaccard loss on the hinge errors of binary scores.

    As `LovaszSoftmax` for one mask, with the errors $e = 1 - z\,(2 y - 1)$ of scores $z$ in the place of those of
    probabilities, sorted descendingly:

    $$\sum_k \max(e_{(k)}, 0)\, (J_k - J_{k-1}).$$

    Pixels that are right by a margin of 1 have no gradient.

    Args:
        per_image: Whether each image has a value of its own. If not, the pixels of the batch are those of one
            image.
        ignore_class: Label of pixels that do not count, such as 255, or `None`.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Masks of 0 and 1 `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Scores or logits `(batch, *spatial)` or `(batch, *spatial, 1)`; what is positive is the object.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: a sort of the pixels, and a few passes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.LovaszHinge(ignore_class=255)
    y_true = np.random.randint(0, 2, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 1)))
    ```

    Reference: Maxim Berman, Amal Rannen Triki, Matthew B. Blaschko, *The Lovász-Softmax loss: A tractable
    surrogate for the optimization of the intersection-over-union measure in neural networks*, CVPR 2018,
    arXiv:1705.08790.
    """

    def __init__(
        self,
        per_image: bool = True,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "lovasz_hinge",
        dtype: str | None = None,
    ):
        super().__init__(per_image, True, ignore_class, name=name, reduction=reduction, dtype=dtype)

    def read(self, y_true, y_pred):
        if isinstance(y_true, Labels):
            return y_true
        return read_targets(y_true, y_pred, self.ignore_class)

    def call(self, y_true, y_pred):
        labels = self.read(y_true, y_pred)
        if len(y_pred.shape) < 3 or y_pred.shape[-1] != 1:
            y_pred = ops.expand_dims(y_pred, -1)
        return super().call(labels, y_pred)

    def image_values(self, pixels):
        errors = pixels.count(1.0 - pixels.scores * (2.0 * pixels.targets - 1.0))
        return extension(ops.relu(self.grouped(errors)), self.grouped(pixels.labels))[:, 0]
