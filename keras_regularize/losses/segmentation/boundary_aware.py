"""Masks by the distance of their pixels to the boundary, in bins that are predicted one by one."""

from typing import Any

from keras import ops

from keras_regularize.labels import Labels, read_targets
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.numerics import as_float
from keras_regularize.ops import euclidean_distance_transform
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
def distance_bins(mask: Any, num_bins: int = 5, truncation: float = 10.0) -> Any:
    r"""The bin of every pixel's distance to the background: one-hot maps to learn in the place of a mask.

    With $d$ the distance of a pixel of the object to the nearest pixel outside of it, less 1 so that the
    boundary has 0, and $R$ the truncation, the pixel is in bin $k$ of $K$ if

    $$k = \min\big(\lfloor K\, \lceil d \rceil / R \rfloor,\ K - 1\big).$$

    Pixels outside of the object are in no bin. A pixel in bin $k$ has no background nearer than $k R / K$. An
    object without an outside is as deep as it can be.

    Args:
        mask: Masks `(batch, *spatial)`; more than ½ is the object.
        num_bins: Number of bins $K$.
        truncation: Distance $R > 0$, in pixels, from where on all are in the last bin.

    Returns:
        One-hot maps `(batch, *spatial, num_bins)` in float32, all 0 outside of the object.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: one distance transform.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.distance_bins(np.array([[0, 1, 1, 1, 1, 1, 0]]), num_bins=2, truncation=4)
    ```

    Reference: Zeeshan Hayder, Xuming He, Mathieu Salzmann, *Boundary-aware Instance Segmentation*, CVPR 2017,
    arXiv:1612.03129.
    """
    check_integer("num_bins", num_bins, 1)
    check_number("truncation", truncation, above=0)
    inside = as_float(mask) > 0.5
    axes = tuple(range(1, len(inside.shape)))
    depth = ops.ceil(euclidean_distance_transform(inside) - 1.0)
    index = ops.minimum(ops.floor(depth * num_bins / truncation), num_bins - 1)
    index = ops.where(ops.all(inside, axis=axes, keepdims=True), num_bins - 1, index)
    bins = ops.one_hot(ops.cast(ops.maximum(index, 0), "int32"), num_bins, dtype="float32")
    return ops.where(inside[..., None], bins, 0.0)


@export
def mask_from_distance_bins(bins: Any, truncation: float = 10.0, threshold: float = 0.4) -> Any:
    r"""The mask of predicted distance bins: the union of the disks that lie within the object.

    A pixel in bin $k$ of $K$ says that all pixels nearer than $k R / K$, or that pixel itself, are of the
    object. So the score of a pixel is the largest probability of a bin anywhere whose disk reaches it, and the
    mask is where that exceeds the threshold.

    Args:
        bins: Probabilities `(batch, *spatial, num_bins)`.
        truncation: Distance $R > 0$, in pixels, that `distance_bins` had.
        threshold: Score above which a pixel belongs to the mask, in [0, 1).

    Returns:
        Bools `(batch, *spatial)`.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: one distance transform per bin.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    mask = np.array([[0, 1, 1, 1, 1, 1, 0]])
    bins = kr.losses.distance_bins(mask, num_bins=2, truncation=4)
    kr.losses.mask_from_distance_bins(bins, truncation=4)  # The mask again.
    ```

    Reference: Zeeshan Hayder, Xuming He, Mathieu Salzmann, *Boundary-aware Instance Segmentation*, CVPR 2017,
    arXiv:1612.03129.
    """
    check_number("truncation", truncation, above=0)
    check_number("threshold", threshold, minimum=0, below=1)
    bins = ops.convert_to_tensor(bins)
    number = bins.shape[-1]
    mask = ops.any(bins > threshold, axis=-1)
    for k in range(1, number):
        centres = bins[..., k] > threshold
        some = ops.any(centres, axis=tuple(range(1, len(centres.shape))), keepdims=True)
        near = euclidean_distance_transform(ops.logical_not(centres)) <= k * truncation / number
        mask = ops.logical_or(mask, ops.logical_and(some, near))
    return mask


@export
class BoundaryAware(SegmentationLoss):
    r"""Binary cross-entropies of the distance bins of a mask, which say how deep in the object a pixel is.

    With the one-hot maps $b_k$ of `losses.distance_bins` and independent probabilities $p_k$, an image has the
    value

    $$\operatorname*{mean}_{\text{pixels}} \sum_{k=1}^K -b_k \log p_k - (1 - b_k) \log (1 - p_k).$$

    A wrong bin still says where the object is; `losses.mask_from_distance_bins` makes the mask from the
    prediction.

    Args:
        num_bins: Number of bins $K$, the channels of the prediction.
        truncation: Distance in pixels from where on all are in the last bin. The edges of bins are ours: the paper
            normalises distances by the size of the object's box.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Masks of 0 and 1 `(batch, *spatial)` or `(batch, *spatial, 1)`.
        y_pred: Probabilities `(batch, *spatial, num_bins)`, each of a sigmoid, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or masks and predictions do not fit.

    Cost: that of binary cross-entropy and one distance transform of the targets.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.BoundaryAware(num_bins=4, from_logits=True)
    mask = np.random.randint(0, 2, size=(2, 16, 16))
    loss(mask, np.random.normal(size=(2, 16, 16, 4)))
    ```

    Reference: Zeeshan Hayder, Xuming He, Mathieu Salzmann, *Boundary-aware Instance Segmentation*, CVPR 2017,
    arXiv:1612.03129.
    """

    def __init__(self, num_bins: int = 5, truncation: float = 10.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_bins = check_integer("num_bins", num_bins, 1)
        self.truncation = check_number("truncation", truncation, above=0)

    def read(self, y_true, y_pred):
        if isinstance(y_true, Labels):
            return y_true
        if len(y_pred.shape) < 3 or y_pred.shape[-1] != self.num_bins:
            raise ValueError(
                f"Expected predictions of shape (batch, *spatial, {self.num_bins}), a channel per bin. "
                f"Received: y_pred.shape={tuple(y_pred.shape)}"
            )
        return read_targets(y_true, y_pred[..., :1], self.ignore_class)

    def image_values(self, pixels):
        x = pixels.scores
        masks = pixels.in_space(pixels.labels)[:, 0]
        bins = distance_bins(masks, self.num_bins, self.truncation)
        bins = ops.reshape(bins, (-1, x.shape[2], self.num_bins))
        bins = ops.cast(ops.transpose(bins, (0, 2, 1)), x.dtype)
        if self.from_logits:
            values = ops.softplus(x) - bins * x
        else:
            p = ops.clip(x, 1e-7, 1.0 - 1e-7)
            values = -bins * ops.log(p) - (1.0 - bins) * ops.log(1.0 - p)
        return self.mean(pixels, ops.sum(values, axis=1))
