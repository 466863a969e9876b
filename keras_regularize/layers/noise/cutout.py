"""Cutout: random square holes in training images."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.ops.images import cutout, refuse_other_graphs
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class Cutout(Configured, keras.layers.Layer):
    r"""Cuts random squares out of training images, so that a network does not rely on single patches.

    For every image and hole a centre is drawn uniformly over ALL pixels, and the square $[r - \lfloor L/2
    \rfloor,\ r + \lfloor L/2\rfloor) \times [c - \lfloor L/2\rfloor,\ c + \lfloor L/2\rfloor)$ around it is
    filled, in all channels, as far as it lies in the image. Holes therefore stick out of the image and show
    fewer pixels near its border, which the authors found essential. It acts on every image, in training
    only; at inference the images pass unchanged. A length of 0 or 1 cuts nothing.

    Put it after normalization, where 0 is the mean, and after random crops and flips.
    `keras.layers.RandomErasing` differs: rectangles that lie inside the image, with a probability, filled
    with noise. In a `tf.data` pipeline it runs on the TensorFlow backend only; on others put it into the model.

    Args:
        length: $L \ge 0$, side of the square in pixels. The authors use 16 for CIFAR-10, 8 for CIFAR-100 and
            20 for SVHN, images of 32 × 32.
        num_holes: Holes per image, at least 1; they may overlap.
        fill_value: What the holes are filled with.
        seed: Integer seed of the centres, or None.
        data_format: `"channels_last"` or `"channels_first"`; default that of the Keras configuration.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: images `(batch, height, width, channels)`, or one image without batch axis, of float or integer
    dtype; the batch size may be unknown. Output: the same shape and dtype.

    Raises:
        ValueError: If an argument is out of range, the input has another rank, or it is called in a `tf.data`
            pipeline on another backend than TensorFlow.

    Cost: one comparison per hole and pixel.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([
        keras.Input((32, 32, 3)),
        kr.layers.Cutout(16),
        keras.layers.Conv2D(8, 3),
        keras.layers.GlobalAveragePooling2D(),
    ])
    model(np.ones((2, 32, 32, 3)), training=True)
    ```

    Reference: Terrance DeVries and Graham W. Taylor, *Improved Regularization of Convolutional Neural
    Networks with Cutout*, 2017, arXiv:1708.04552.
    """

    def __init__(
        self,
        length: int = 16,
        num_holes: int = 1,
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        data_format = data_format or keras.config.image_data_format()
        super().__init__(**kwargs)
        self.length = check_integer("length", length, minimum=0)
        self.num_holes = check_integer("num_holes", num_holes, minimum=1)
        self.fill_value = check_number("fill_value", fill_value)
        self.seed = check_integer("seed", seed, optional=True)
        self.data_format = check_choice(
            "data_format", data_format, ("channels_last", "channels_first")
        )
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_other_graphs("Cutout", inputs)  # Before Keras tries to convert them.
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        rank = len(inputs.shape)
        if rank not in (3, 4):
            raise ValueError(
                "`Cutout` needs images (batch, height, width, channels) or (height, width, channels). "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )
        if not training:
            return inputs
        shape = ops.shape(inputs)
        size = shape[-2:] if self.data_format == "channels_first" else shape[-3:-1]
        drawn = (*shape[:-3], self.num_holes)
        centers = [
            keras.random.randint(drawn, 0, side, dtype="int32", seed=self.seed_generator)
            for side in size
        ]
        centers = ops.stack(centers, axis=-1)
        return cutout(inputs, centers, self.length, self.fill_value, self.data_format)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor(inputs.shape, inputs.dtype)
