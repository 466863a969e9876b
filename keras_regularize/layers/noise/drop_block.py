"""DropBlock: dropout of whole blocks of a feature map."""

from typing import Any

import keras
from keras import ops

from keras_regularize.layers.noise._noise import Noise
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class DropBlock(Noise):
    r"""Drops blocks of neighbouring activations, because neighbours tell what a dropped activation would have.

    In training every channel of every sample draws the places of its blocks anew. Along an axis of size $n$ a
    block of $k$ fits at $n - k + 1$ places; at each of the places in the map one begins with probability

    $$\gamma = \text{rate} \prod_{\text{axes}} \frac{n}{k\,(n - k + 1)},$$

    all in blocks is set to 0, and what is left is divided by the share that is left in the whole batch. Blocks
    lie inside of the map and may overlap, so that a little less than `rate` is dropped on average. Along an axis
    shorter than the block, the block is as long as the axis. With `block_size=1` it is dropout. At inference
    inputs pass unchanged.

    The authors use it after the convolutions and on the skip connections of the last two groups of a ResNet-50,
    with a quarter of the rate in the first of the two, and raise the rate from 0 to its value in the course of
    training. Their code differs in two points: it takes square maps only, or, where it takes others, computes
    $\gamma$ from a block that was not shortened.

    `keras.layers.SpatialDropout2D` drops whole channels, `keras.layers.Dropout` single activations.

    Args:
        block_size: $k \ge 1$, side of a block in activations. The authors use 7.
        rate: Share to be dropped, in [0, 1). The authors use 0.1.
        seed: Integer seed of the places, or None.
        data_format: `"channels_last"` or `"channels_first"`; default that of the Keras configuration.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: floats `(batch, …, channels)` with 1, 2 or 3 axes of space; with `"channels_first"` channels come after
    the batch. All sizes may be unknown. Output: the same shape and dtype.

    Raises:
        ValueError: If an argument is out of range, or the inputs are no floats or of another rank.

    Cost: one draw per activation and a max pooling over `block_size` along each axis.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        kr.layers.DropBlock(block_size=7, rate=0.1),
        keras.layers.GlobalAveragePooling2D(),
    ])
    model(np.ones((2, 32, 32, 3)), training=True)
    ```

    Reference: Golnaz Ghiasi, Tsung-Yi Lin and Quoc V. Le, *DropBlock: A regularization method for convolutional
    networks*, NeurIPS 2018, arXiv:1810.12890.
    """

    def __init__(
        self,
        block_size: int = 7,
        rate: float = 0.1,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.block_size = check_integer("block_size", block_size, minimum=1)
        self.rate = check_number("rate", rate, minimum=0, below=1)
        self.data_format = check_choice(
            "data_format",
            data_format or keras.config.image_data_format(),
            ("channels_last", "channels_first"),
        )

    def _check(self, inputs):
        super()._check(inputs)
        if len(inputs.shape) not in (3, 4, 5):
            raise ValueError(
                "`DropBlock` needs inputs (batch, …, channels) with 1 to 3 axes of space. "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )

    def _perturb(self, inputs):
        batch, *sizes = ops.shape(inputs)
        channels = sizes.pop(0 if self.data_format == "channels_first" else -1)
        places = [_at_least_one(size - self.block_size + 1) for size in sizes]
        gamma = self.rate
        for size, count in zip(sizes, places):
            gamma = gamma * (size / ((size - count + 1) * count))
        begins = self._uniform((batch, *places, channels)) < ops.cast(gamma, "float32")
        return self._without(inputs, self._blocks(begins, sizes))

    def _blocks(self, begins, sizes):
        """What lies in blocks `(batch, *sizes, channels)`, from the places `begins` where they begin."""
        size = self.block_size
        around = [(0, 0), *[(size - 1, size - 1)] * len(sizes), (0, 0)]
        begins = ops.pad(ops.cast(begins, "float32"), around)
        blocks = ops.max_pool(begins, size, strides=1, data_format="channels_last")
        # Beyond an axis that is shorter than the block there is nothing.
        return blocks[(slice(None), *(slice(n) for n in sizes))] > 0

    def _without(self, inputs, blocks):
        """Inputs with nothing in the blocks, and the rest in the place of the whole."""
        if self.data_format == "channels_first":
            blocks = ops.moveaxis(blocks, -1, 1)
        share = ops.mean(ops.cast(ops.logical_not(blocks), "float32"))
        scale = 1.0 / ops.where(share > 0, share, 1.0)
        return ops.where(blocks, 0.0, inputs * ops.cast(scale, inputs.dtype))


def _at_least_one(count):
    """Of an integer, or of a tensor where a size is not known before the graph runs."""
    return max(count, 1) if isinstance(count, int) else ops.maximum(count, 1)
