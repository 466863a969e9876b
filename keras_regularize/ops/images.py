"""Square holes in images."""

from typing import Any

import keras
from keras import ops

from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer


@export
def cutout(
    images: Any,
    centers: Any,
    length: int,
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Any:
    r"""Cuts square holes out of images, at given centres.

    The hole of centre $(r, c)$ and length $L$ covers the rows $[r - \lfloor L/2\rfloor,\ r + \lfloor
    L/2\rfloor)$ and columns likewise, in all channels, as far as they lie in the image: a hole may stick out
    of it. An odd $L$ cuts $L-1$ pixels, lengths 0 and 1 none. Holes may overlap.
    `kr.layers.Cutout` draws the centres.

    Args:
        images: `(batch, height, width, channels)`, or one image `(height, width, channels)`; of any dtype.
            With `data_format="channels_first"` the channels come before the height.
        centers: Integer rows and columns, `(batch, holes, 2)`; for one image `(holes, 2)`.
        length: $L \ge 0$, in pixels.
        fill_value: What the holes are filled with, cast to the dtype of the images.
        data_format: `"channels_last"` or `"channels_first"`; default that of the Keras configuration.

    Returns:
        Images of the shape and dtype of `images`.

    Raises:
        ValueError: If `length` or `data_format` is none of these, the ranks do not fit, or it is called in a
            `tf.data` pipeline on another backend than TensorFlow.

    Cost: one comparison per hole and pixel, without slicing; gradients pass outside the holes.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    images = np.ones((1, 6, 6, 3), "float32")
    cut = kr.ops.cutout(images, np.array([[[3, 3]]]), length=4)  # 16 of the 36 pixels are 0
    ```

    Reference: Terrance DeVries and Graham W. Taylor, *Improved Regularization of Convolutional Neural
    Networks with Cutout*, 2017, arXiv:1708.04552.
    """
    refuse_other_graphs("cutout", images)
    check_integer("length", length, minimum=0)
    data_format = data_format or keras.config.image_data_format()
    check_choice("data_format", data_format, ("channels_last", "channels_first"))
    images = ops.convert_to_tensor(images)
    centers = ops.cast(centers, "int32")
    rank = len(images.shape)
    if rank not in (3, 4) or len(centers.shape) != rank - 1 or centers.shape[-1] != 2:
        raise ValueError(
            "Expected images (batch, height, width, channels) with centers (batch, holes, 2), or one image "
            "(height, width, channels) with centers (holes, 2). "
            f"Received: images.shape={tuple(images.shape)}, centers.shape={tuple(centers.shape)}"
        )
    first = data_format == "channels_first"
    height, width = ops.shape(images)[-2:] if first else ops.shape(images)[-3:-1]
    rows = _inside(centers[..., 0], height, length // 2)
    columns = _inside(centers[..., 1], width, length // 2)
    hole = ops.any(ops.logical_and(rows[..., :, None], columns[..., None, :]), axis=-3)
    hole = ops.expand_dims(hole, -3 if first else -1)
    return ops.where(hole, ops.cast(fill_value, images.dtype), images)


def refuse_other_graphs(name, images):
    """Raises for a tensor that TensorFlow traces, in a `tf.data` pipeline, while another backend computes.

    What lets Keras' own preprocessing layers switch the backend there is not public.
    """
    traced = type(images).__module__.startswith("tensorflow") and not hasattr(images, "numpy")
    if traced and keras.config.backend() != "tensorflow":
        raise ValueError(
            f"`{name}` computes on the backend of Keras and runs in a `tf.data` pipeline on the TensorFlow "
            "backend only. Put `kr.layers.Cutout` into the model, or pass the images batch by batch from a "
            f"`keras.utils.PyDataset`. Received a tensor of a TensorFlow graph on the {keras.config.backend()} "
            "backend"
        )


def _inside(center, size, half):
    """Which of the `size` pixels of a side lie in `[center - half, center + half)`."""
    offset = ops.arange(size, dtype="int32") - center[..., None]
    return ops.logical_and(offset >= -half, offset < half)
