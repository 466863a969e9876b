"""The networks of image translation."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_regularize.validation import check_integer, check_number


def UNetGenerator(
    input_shape: Sequence[int],
    output_channels: int,
    filters: int = 64,
    depth: int = 8,
    dropout: float = 0.5,
) -> keras.Model:
    r"""The generator of pix2pix: an encoder that halves the picture `depth` times, and a decoder with skips.

    Convolutions are 4 × 4 with stride 2, of `filters` · (1, 2, 4, 8, 8, …) filters; leaky rectifiers of slope 0.2
    on the way down, rectifiers on the way up, batch normalization but at the first and innermost, dropout in the
    first three blocks of the decoder that have eight times `filters`, and a last `tanh`: images are in [-1, 1].

    Args:
        input_shape: `(height, width, channels)`, sides divisible by `2 ** depth`.
        output_channels: Channels of the output, at least 1.
        filters: Filters of the first block, at least 1.
        depth: Number of blocks, at least 2; 8 for 256 × 256.
        dropout: Rate in [0, 1).

    Returns:
        A functional model of `(batch, height, width, channels)`.

    Raises:
        ValueError: If an argument is out of range, or a side cannot be halved so often.

    Example:

    ```python
    import keras_regularize as kr

    kr.generative.UNetGenerator((16, 16, 3), 1, filters=4, depth=3).output_shape  # (None, 16, 16, 1)
    ```

    Reference: Phillip Isola, Jun-Yan Zhu, Tinghui Zhou and Alexei Efros, *Image-to-Image Translation with
    Conditional Adversarial Networks*, CVPR 2017, arXiv:1611.07004.
    """
    check_integer("output_channels", output_channels, minimum=1)
    check_integer("filters", filters, minimum=1)
    check_integer("depth", depth, minimum=2)
    check_number("dropout", dropout, minimum=0, below=1)
    _check_image("input_shape", input_shape, 2**depth)
    widths = [filters * min(2**i, 8) for i in range(depth)]
    inputs = keras.Input(input_shape)
    x, skips = inputs, []
    for i, width in enumerate(widths):
        x = layers.LeakyReLU(0.2)(x) if i else x
        x = _convolution(width, strides=2)(layers.ZeroPadding2D(1)(x))
        x = _normalization()(x) if 0 < i < depth - 1 else x
        skips.append(x)
    for i in reversed(range(depth)):
        x = layers.ReLU()(x)
        width = widths[i - 1] if i else output_channels
        x = layers.Conv2DTranspose(
            width, 4, strides=2, padding="same", kernel_initializer=_normal(0.0)
        )(x)
        if i == 0:
            return keras.Model(inputs, layers.Activation("tanh")(x), name="unet_generator")
        x = _normalization()(x)
        if dropout and depth - 3 <= i < depth and widths[i] == 8 * filters:
            x = layers.Dropout(dropout)(x)
        x = layers.Concatenate()([x, skips[i - 1]])
    raise AssertionError("unreachable")


def PatchDiscriminator(
    input_shape: Sequence[int],
    target_shape: Sequence[int],
    filters: int = 64,
    num_layers: int = 3,
) -> keras.Model:
    r"""The discriminator of pix2pix: a logit for every patch of a pair of pictures.

    Convolutions are 4 × 4: `num_layers` of stride 2 and `filters` · (1, 2, 4, 8, 8, …), one of stride 1, and a
    last one to a single map, padded by one pixel each. A logit sees a patch of 16, 34, 70, 142, 286, 574 pixels
    for 1, …, 6 layers, and of one pixel for 0, where all are 1 × 1. Batch normalization but at the first and last,
    leaky rectifiers of slope 0.2.

    Args:
        input_shape: `(height, width, channels)` of what is translated.
        target_shape: `(height, width, channels)` of its translation.
        filters: Filters of the first layer, at least 1.
        num_layers: Number of layers of stride 2, at least 0.

    Returns:
        A functional model of `[input, target]`, with output `(batch, rows, columns, 1)`, logits.

    Raises:
        ValueError: If an argument is out of range, or the sizes differ or are too small.

    Example:

    ```python
    import keras_regularize as kr

    kr.generative.PatchDiscriminator((256, 256, 3), (256, 256, 3), filters=8).output_shape  # (None, 30, 30, 1)
    ```

    Reference: Phillip Isola, Jun-Yan Zhu, Tinghui Zhou and Alexei Efros, *Image-to-Image Translation with
    Conditional Adversarial Networks*, CVPR 2017, arXiv:1611.07004.
    """
    check_integer("filters", filters, minimum=1)
    check_integer("num_layers", num_layers, minimum=0)
    _check_image("input_shape", input_shape, 1)
    _check_image("target_shape", target_shape, 1)
    if tuple(input_shape[:2]) != tuple(target_shape[:2]):
        raise ValueError(
            "Expected pictures of the same height and width. "
            f"Received: input_shape={tuple(input_shape)}, target_shape={tuple(target_shape)}"
        )
    if min(input_shape[:2]) < 2 ** (num_layers + 1) and num_layers:
        raise ValueError(
            f"{num_layers} layers need pictures of at least {2 ** (num_layers + 1)} pixels a side. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    pair = [keras.Input(input_shape), keras.Input(target_shape)]
    x = layers.Concatenate()(pair)
    if num_layers == 0:
        blocks = [(filters, 1, False), (2 * filters, 1, True), (1, 1, False)]
    else:
        blocks = [(filters * min(2**i, 8), 2, i > 0) for i in range(num_layers)]
        blocks += [(filters * min(2**num_layers, 8), 1, True), (1, 1, False)]
    for i, (width, strides, normalized) in enumerate(blocks):
        size = 4 if num_layers else 1
        x = layers.ZeroPadding2D(1)(x) if num_layers else x
        x = _convolution(width, strides, size)(x)
        x = _normalization()(x) if normalized else x
        x = layers.LeakyReLU(0.2)(x) if i < len(blocks) - 1 else x
    return keras.Model(pair, x, name="patch_discriminator")


def _convolution(filters, strides, size=4):
    return layers.Conv2D(filters, size, strides=strides, kernel_initializer=_normal(0.0))


def _normalization():
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=_normal(1.0))


def _normal(mean):
    """What the authors start weights from, one for each of them: used twice, it gives the same values."""
    return keras.initializers.RandomNormal(mean, 0.02)


def _check_image(name, shape, divisor):
    fits = len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    if not fits or any(n % divisor for n in shape[:2]):
        words = f" with sides divisible by {divisor}" if divisor > 1 else ""
        raise ValueError(
            f"`{name}` must be (height, width, channels){words}. Received: {name}={shape!r}"
        )
