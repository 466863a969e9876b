"""Losses of the distances to a boundary: signed, powers of them, or normalized by region."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_regularize.labels import Labels, read_labels
from keras_regularize.losses.segmentation._distance_maps import maps
from keras_regularize.losses.segmentation.segmentation_loss import Pixels, SegmentationLoss
from keras_regularize.numerics import mean
from keras_regularize.ops import euclidean_distance_transform
from keras_regularize.registration import export
from keras_regularize.validation import check_number


class DistanceLoss(SegmentationLoss):
    """A loss with maps of the targets' distances, computed here or given: a base for losses of boundaries.

    A subclass has a `kind` of map and overrides `values_at(p, y, distances, pixels)`: values of the shape of
    `p`, `y` and `distances`, which are `(batch, classes, pixels)` of the classes that count.
    """

    kind = "signed"

    def __init__(
        self,
        include_background: bool = False,
        sampling: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.include_background = bool(include_background)
        self.sampling = check_sampling(sampling)

    def read(self, y_true, y_pred):
        if isinstance(y_true, Labels):
            return y_true
        given = tuple(ops.shape(y_true))
        if len(given) == len(y_pred.shape) > 2 and given[-1] == 2 * (y_pred.shape[-1] or 0):
            # Rows of targets and maps.
            like = ops.concatenate([y_pred, y_pred], axis=-1)
            return read_labels(y_true, like, self.ignore_class)
        return super().read(y_true, y_pred)

    def image_values(self, pixels):
        classes = pixels.scores.shape[1]
        distances = pixels.targets[:, classes:]
        pixels = dataclasses.replace(pixels, targets=pixels.targets[:, :classes])
        return self.mean(
            pixels, self.values_with(pixels, distances if distances.shape[1] else None)
        )

    def values_with(self, pixels: Pixels, distances: Any) -> Any:
        """Values `(batch, pixels)`; `distances` are those given, or `None`."""
        first = int(pixels.scores.shape[1] > 1 and not self.include_background)
        p, y = pixels.probabilities[:, first:], pixels.labels[:, first:]
        distances = self.maps(pixels, y) if distances is None else distances[:, first:]
        return mean(self.values_at(p, y, distances, pixels), axis=1)

    def values_at(self, p: Any, y: Any, distances: Any, pixels: Pixels) -> Any:
        raise NotImplementedError

    def maps(self, pixels: Pixels, x: Any) -> Any:
        """The maps of `x (batch, classes, pixels)`, in which more than ½ is inside; constants."""
        inside = pixels.in_space(ops.stop_gradient(x) > 0.5)

        def transform(masks):
            flat = ops.reshape(masks, (-1, *masks.shape[2:]))
            distances = euclidean_distance_transform(flat, self.sampling)
            return ops.cast(ops.reshape(distances, ops.shape(masks)), x.dtype)

        return ops.reshape(maps(ops, transform, inside, self.kind), ops.shape(x))


def check_sampling(sampling):
    """Sizes of a pixel as plain numbers."""
    if sampling is None:
        return None
    return [check_number("sampling", float(size), above=0) for size in sampling]


@export
class Boundary(DistanceLoss):
    r"""Boundary loss: the predicted mass times its signed distance to the boundary of the target.

    With the signed distance $\phi_c$ of each pixel to the boundary of class $c$, which is 0 at the object's pixels
    next to it, negative inside and positive outside, and probabilities $p_c$,

    $$\operatorname*{mean}_{c,\ \text{pixels}} \phi_c\, p_c.$$

    It is linear in the probabilities and least, and negative, for the perfect mask. A class that is absent, or
    everywhere, contributes 0. It teaches little about small objects alone: the authors use $(1 - a)$ times
    `GeneralizedDice` plus $a$ times this, with $a$ rising from 0.01 by 0.01 per epoch.

    Args:
        include_background: Whether class 0 counts. Without effect for a single channel.
        sampling: Size of a pixel along each axis of space, or `None` for 1.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            `(batch, *spatial)` or `(batch, *spatial, 1)`. Or what `losses.distance_maps` made of these in the data
            pipeline, with `2 · classes` channels, so that nothing is left to compute.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: two distance transforms of the targets, if they bring no maps, and one pass.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.Boundary(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Hoel Kervadec and others, *Boundary loss for highly unbalanced segmentation*, Medical Image Analysis
    2021, arXiv:1812.07032.
    """

    def values_at(self, p, y, distances, pixels):
        return distances * p


@export
class HausdorffDistance(DistanceLoss):
    r"""Squared errors times powers of the distances to both boundaries: an estimate of the Hausdorff distance.

    With the distances $d_y$ of each pixel to the boundary of the target and $d_p$ to that of the prediction
    $p > ½$,

    $$\operatorname*{mean}_{c,\ \text{pixels}} (p - y)^2 \big(d_y^\alpha + d_p^\alpha\big).$$

    Far mistakes count most. Distances are constants of the gradient. A mask that is empty or everything has
    distances of 0.

    Args:
        alpha: Exponent $\alpha > 0$; the authors use 2.
        include_background: Whether class 0 counts. Without effect for a single channel.
        two_sided: Whether $d_p$ counts, for which each step has to transform the prediction.
        sampling: Size of a pixel along each axis of space, or `None` for 1.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            `(batch, *spatial)` or `(batch, *spatial, 1)`. Or what `losses.distance_maps` made of these in the data
            pipeline, with `2 · classes` channels, so that nothing is left to compute.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: two distance transforms of the targets, if they bring no maps, and two of the prediction if `two_sided`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.HausdorffDistance(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Davood Karimi, Septimiu E. Salcudean, *Reducing the Hausdorff Distance in Medical Image Segmentation
    with Convolutional Neural Networks*, IEEE Transactions on Medical Imaging 2020, arXiv:1904.10030.
    """

    kind = "unsigned"

    def __init__(
        self,
        alpha: float = 2.0,
        include_background: bool = False,
        two_sided: bool = True,
        sampling: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(include_background, sampling, **kwargs)
        self.alpha = check_number("alpha", alpha, above=0)
        self.two_sided = bool(two_sided)

    def values_at(self, p, y, distances, pixels):
        weights = ops.power(distances, self.alpha)
        if self.two_sided:
            weights = weights + ops.power(self.maps(pixels, p), self.alpha)
        return (p - y) ** 2 * weights


@export
class RegionWise(DistanceLoss):
    r"""Region-wise loss: each probability times a map that rewards the depth of an object.

    With the depth $d$ of the object's pixels, their distance to the background,

    $$\operatorname*{mean}_{c,\ \text{pixels}} z_c\, p_c, \qquad
      z_c = -d / \max d \text{ inside, } 1 \text{ outside.}$$

    All classes count, unless `include_background` is unset. Its range is $[-1, 1]$, it is linear in the
    probabilities and works alone.

    Args:
        include_background: Whether class 0 counts. Without effect for a single channel.
        sampling: Size of a pixel along each axis of space, or `None` for 1.
        **kwargs: `per_image`, `from_logits`, `ignore_class`, `name`, `reduction` and `dtype` as in
            `losses.SegmentationLoss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            `(batch, *spatial)` or `(batch, *spatial, 1)`. Or what `losses.distance_maps` made of these in the data
            pipeline, with `2 · classes` channels, so that nothing is left to compute.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: two distance transforms of the targets, if they bring no maps, and one pass.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.RegionWise(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Juan Miguel Valverde, Jussi Tohka, *Region-wise loss for biomedical image segmentation*, Pattern
    Recognition 2023, arXiv:2108.01405.
    """

    kind = "region_wise"

    def __init__(
        self,
        include_background: bool = True,
        sampling: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(include_background, sampling, **kwargs)

    def values_at(self, p, y, distances, pixels):
        return distances * p


@export
class DistanceMapCrossentropy(DistanceLoss):
    r"""Cross-entropy that counts up to twice near boundaries.

    With cross-entropies $\ell$ and a penalty $\phi$ that is 1 next to the boundary of the foreground, all classes
    but the first, and falls with the distance to 0 at the deepest pixel of either side,

    $$\operatorname*{mean}_{\text{pixels}} (1 + \phi)\, \ell.$$

    An image without foreground, or of nothing else, has plain cross-entropy.

    Args:
        sampling: Size of a pixel along each axis of space, or `None` for 1.
        per_image: Whether each image has a value of its own, else the mean of the batch.
        from_logits: Whether `y_pred` are logits.
        ignore_class: Class id of pixels that do not count, or `None`.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or one-hot or soft rows `(batch, *spatial, classes)`; for one channel
            `(batch, *spatial)` or `(batch, *spatial, 1)`. Or what `losses.distance_maps` made of these in the data
            pipeline, with `2 · classes` channels, so that nothing is left to compute.
        y_pred: Probabilities `(batch, *spatial, classes)` or `(batch, *spatial, 1)`, or logits if `from_logits`.

    Returns:
        With `reduction="none"` one value per image `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of its range, or labels and predictions do not fit.

    Cost: that of cross-entropy and two distance transforms of one mask per image.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.DistanceMapCrossentropy(from_logits=True)
    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    loss(y_true, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Francesco Caliva and others, *Distance Map Loss Penalty Term for Semantic Segmentation*, MIDL 2019,
    arXiv:1908.03679.
    """

    kind = "penalty"

    def __init__(
        self,
        sampling: Sequence[float] | None = None,
        per_image: bool = True,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "distance_map_crossentropy",
        dtype: str | None = None,
    ):
        super().__init__(
            sampling=sampling,
            per_image=per_image,
            from_logits=from_logits,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def values_with(self, pixels, distances):
        if distances is None:
            y = pixels.labels
            foreground = y if y.shape[1] == 1 else ops.sum(y[:, 1:], axis=1, keepdims=True)
            distances = self.maps(pixels, foreground)
        return (1.0 + distances[:, 0]) * pixels.crossentropy()
