"""What every loss of segmentation masks has in common: a base class."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import Labels, check_labels, read_targets
from keras_regularize.losses.loss import ClassLoss
from keras_regularize.numerics import mean, upcast


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Targets and predictions of the pixels of a batch, channels first: sums over space are over the last axis.

    Attributes:
        targets: One-hot or soft `(batch, classes, pixels)`; of a single channel, the foreground's share.
        scores: Logits or probabilities `(batch, classes, pixels)`, 0 at pixels to ignore.
        counted: Zeros at pixels to ignore and ones elsewhere `(batch, 1, pixels)`, or `None` if all count.
        spatial: The sizes of space, whose product is `pixels`.
        from_logits: Whether `scores` are logits.
    """

    targets: Any
    scores: Any
    counted: Any
    spatial: tuple
    from_logits: bool

    def count(self, x):
        """`x (…, classes, pixels)` with zeros where pixels are to be ignored."""
        return x if self.counted is None else x * self.counted

    @functools.cached_property
    def labels(self):
        """The targets, 0 in all classes at pixels to ignore."""
        return self.count(self.targets)

    @functools.cached_property
    def probabilities(self):
        """Probabilities `(batch, classes, pixels)`, 0 in all classes at pixels to ignore."""
        p = self.scores
        if self.from_logits:
            p = ops.sigmoid(p) if p.shape[1] == 1 else ops.softmax(p, axis=1)
        return self.count(p)

    def with_background(self):
        """The same with two channels, background and foreground, in the place of a single one."""
        if self.scores.shape[1] > 1:
            return self
        x = self.scores
        return dataclasses.replace(
            self,
            targets=ops.concatenate([1.0 - self.targets, self.targets], axis=1),
            scores=ops.concatenate([0.0 * x if self.from_logits else 1.0 - x, x], axis=1),
        )

    @functools.cached_property
    def log_probabilities(self):
        """Log-probabilities `(batch, classes, pixels)`, of two channels or more."""
        if self.from_logits:
            return ops.log_softmax(self.scores, axis=1)
        return ops.log(ops.clip(self.scores, 1e-7, 1.0 - 1e-7))

    def crossentropy(self):
        """Cross-entropy `(batch, pixels)`, 0 at pixels to ignore."""
        both = self.with_background()
        return self.count(-ops.sum(both.targets * both.log_probabilities, axis=1, keepdims=True))[
            :, 0
        ]

    def in_space(self, x):
        """`x (batch, classes, pixels)` as `(batch, classes, *spatial)`."""
        return ops.reshape(x, (-1, x.shape[1], *self.spatial))


class SegmentationLoss(ClassLoss):
    """A loss of masks, one value per image: a base with the conventions of all losses of segmentation.

    It reads labels in every form, looks at the ids, leaves out pixels to ignore and hands a subclass the rest,
    channels first and space flattened: that overrides `image_values(pixels)`, which gives one value per image or,
    computed from sums over the whole batch by `self.total`, a single one.

    Args:
        per_image: Whether each image has its own sums over space. If not, sums run over the whole batch and all
            its images have the same value, whose mean is the loss.
        from_logits: Whether `y_pred` are logits, which go through a softmax, or a sigmoid if there is one channel.
            For several labels per pixel, apply the sigmoid in the model.
        ignore_class: Class id of pixels that do not count, such as 255, or `None`. For ids only.
        **kwargs: `name`, `reduction` and `dtype` as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids `(batch, *spatial)` or `(batch, *spatial, 1)`, or one-hot or soft rows `(batch, *spatial,
            classes)`. For one channel the foreground's share, 0 to 1, `(batch, *spatial)` or `(batch, *spatial,
            1)`.
        y_pred: Predictions `(batch, *spatial, classes)` with one or more axes of space; a single channel is the
            foreground.

    Raises:
        ValueError: If the shapes do not fit, or if an id is no class where it can be looked at; compiled, the
            value of its image is NaN.

    Cost: one change of layout.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class Misplaced(kr.losses.SegmentationLoss):
        "Share of the probability that lies on other classes than the pixel's."

        def image_values(self, pixels):
            hit = keras.ops.sum(pixels.labels * pixels.probabilities, axis=1)
            return 1.0 - self.mean(pixels, hit)


    loss = Misplaced(from_logits=True, ignore_class=255)
    loss(np.array([[0, 2, 255]], "uint8"), np.zeros((1, 3, 3), "float32"))  # 2/3
    ```
    """

    def __init__(
        self,
        per_image: bool = True,
        from_logits: bool = False,
        ignore_class: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(ignore_class, **kwargs)
        self.per_image = bool(per_image)
        self.from_logits = bool(from_logits)

    def image_values(self, pixels: Pixels) -> Any:
        """The values `(batch,)`, or one value `(1,)` for the batch."""
        raise NotImplementedError

    def total(self, x: Any) -> Any:
        """Sums of `x (batch, classes, pixels)` over space, and over the batch unless `per_image`."""
        x = ops.sum(x, axis=-1)
        return x if self.per_image else ops.sum(x, axis=0, keepdims=True)

    def mean(self, pixels: Pixels, x: Any) -> Any:
        """Means of `x (batch, pixels)` over the pixels that count, of an image or of the batch."""
        if pixels.counted is None:
            values = mean(x, axis=-1)
            return values if self.per_image else mean(values, axis=0, keepdims=True)
        number = self.total(pixels.counted)[:, 0]
        return self.total(pixels.count(x[:, None]))[:, 0] / ops.where(number > 0, number, 1.0)

    def grouped(self, x: Any) -> Any:
        """`x (batch, classes, pixels)`, unless `per_image` with all images side by side `(1, classes, pixels)`."""
        if self.per_image:
            return x
        return ops.reshape(ops.transpose(x, (1, 0, 2)), (1, x.shape[1], -1))

    def read(self, y_true, y_pred):
        if isinstance(y_true, Labels):
            return y_true
        if len(y_pred.shape) < 3 or y_pred.shape[-1] is None:
            raise ValueError(
                "Expected predictions of shape (batch, *spatial, classes), or (batch, *spatial, 1). "
                f"Received: y_pred.shape={tuple(y_pred.shape)}"
            )
        if y_pred.shape[-1] == 1:
            return read_targets(y_true, y_pred, self.ignore_class)
        return super().read(y_true, y_pred)

    def call(self, y_true, y_pred):
        labels = check_labels(self.read(y_true, y_pred), y_pred)
        values = self.values(labels, y_pred)
        if labels.outside is not None:
            kept = int(self.per_image)
            wrong = ops.any(labels.outside, axis=tuple(range(kept, len(labels.outside.shape))))
            values = ops.where(wrong, np.nan, values)
        known = tuple(y_pred.shape[:1])
        if None not in known and tuple(values.shape) == known:
            return values  # In an operation less than the next, which takes PyTorch long.
        return ops.broadcast_to(values, ops.shape(y_pred)[:1])

    def values(self, labels, y_pred):
        y_pred = upcast(y_pred)
        spatial = tuple(ops.shape(y_pred)[1:-1])
        scores, counted = backend.channels_first(y_pred), None
        if labels.counted is not None:
            counted = ops.reshape(labels.counted, (-1, 1, math.prod(spatial)))
            scores = ops.where(counted, scores, 0.0)
            counted = ops.cast(counted, scores.dtype)
        if labels.rows is None:
            targets = backend.class_maps(labels.ids, y_pred.shape[-1], scores.dtype)
        else:
            targets = ops.stop_gradient(ops.cast(backend.channels_first(labels.rows), scores.dtype))
        return self.image_values(Pixels(targets, scores, counted, spatial, self.from_logits))
