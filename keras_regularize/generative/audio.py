"""The networks of audio super-resolution."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_regularize.configuration import Configured
from keras_regularize.ops.spectrograms import check_resolution, periodic_hann, spectrum
from keras_regularize.validation import check_integer

_STRIDE = 4
_HALF_WIDTH = 16  # Of the filter of interpolation, in samples of the input.


def SpectralUNet(
    length: int,
    upsampling: int = 2,
    fft_size: int = 512,
    hop_size: int = 64,
    filters: Sequence[int] = (48, 96, 192),
) -> keras.Model:
    r"""A network that adds the high frequencies that a waveform of few samples lacks, in its spectrogram.

    The waveform is interpolated by a windowed sinc, its short-time Fourier transform (real and imaginary part as
    two channels, periodic window of Hann) goes through an encoder that divides the frequencies by four with each
    block, and a decoder with skips; what comes out, transformed back, is added to the interpolation. The last
    convolution starts from 0: before training the network interpolates. Blocks are a convolution of three frames
    by eight frequencies with GELU, and one of 1 × 1 with a gate.

    Args:
        length: Samples of the input.
        upsampling: Samples of the output for each of the input, at least 2: sample `upsampling * i` belongs to
            sample `i`.
        fft_size: Samples of a frame, divisible by `2 * 4 ** len(filters)`.
        hop_size: Samples between frames, at most half of `fft_size`.
        filters: Filters of the blocks of the encoder.

    Returns:
        A functional model from `(batch, length, 1)` to `(batch, length * upsampling, 1)`.

    Raises:
        ValueError: If an argument is out of range, or the sizes do not fit.

    Example:

    ```python
    import keras_regularize as kr

    net = kr.generative.SpectralUNet(256, 2, fft_size=64, hop_size=16, filters=(4, 8))
    net.output_shape  # (None, 512, 1)
    ```

    Reference: Moshe Mandel, Or Tal and Yossi Adi, *AERO: Audio Super Resolution in the Spectral Domain*, ICASSP
    2023, arXiv:2211.12232. A compact relative of the authors' network, without its recurrent and attention layers.
    """
    length = check_integer("length", length, minimum=1)
    upsampling = check_integer("upsampling", upsampling, minimum=2)
    fft_size, hop_size, _ = check_resolution(fft_size, hop_size, fft_size)
    filters = [check_integer("filters", width, minimum=1) for width in filters]
    samples = length * upsampling
    if not filters or fft_size % (2 * _STRIDE ** len(filters)):
        raise ValueError(
            "`fft_size` must be divisible by `2 * 4 ** len(filters)`, with at least one block. "
            f"Received: fft_size={fft_size}, filters={filters}"
        )
    if 2 * hop_size > fft_size or samples <= fft_size // 2:
        raise ValueError(
            "`hop_size` must be at most half of `fft_size`, and the output longer than that half. "
            f"Received: hop_size={hop_size}, fft_size={fft_size}, {samples} samples"
        )
    inputs = keras.Input((length, 1))
    waveform = _Interpolation(upsampling)(inputs)
    x, skips = _Spectrum(fft_size, hop_size)(waveform), []
    for width in filters:
        x = layers.Conv2D(width, (3, 8), (1, _STRIDE), padding="same", activation="gelu")(x)
        x = _gated(x, width)
        skips.append(x)
    x = layers.Conv2D(filters[-1], 3, padding="same", activation="gelu")(x)
    for width, skip in zip([*filters[-2::-1], filters[0]], reversed(skips)):
        x = _gated(layers.Concatenate()([x, skip]), skip.shape[-1])
        x = layers.Conv2DTranspose(width, (3, 8), (1, _STRIDE), padding="same", activation="gelu")(
            x
        )
    x = layers.Conv2D(2, 3, padding="same", kernel_initializer="zeros")(x)
    outputs = layers.Add()([waveform, _Waveform(fft_size, hop_size, samples)(x)])
    return keras.Model(inputs, outputs, name="spectral_unet")


def MultiScaleDiscriminator(
    scales: int = 3, filters: int = 16, num_layers: int = 4, max_filters: int = 1024
) -> keras.Model:
    r"""The discriminator of MelGAN: convolutions that judge windows of a waveform at several rates.

    At each scale a convolution of 15 samples, `num_layers` grouped ones of 41 samples and stride 4, each with four
    times as many filters, one of 5 and a last one of 3 to a single map, with leaky rectifiers of slope 0.2. Scales
    after the first see the waveform averaged over four samples with stride 2, once more each.

    Args:
        scales: Number of scales, at least 1.
        filters: Filters of the first layer, a multiple of 4.
        num_layers: Number of layers of stride 4, at least 0.
        max_filters: Most filters of a layer, a multiple of 4.

    Returns:
        A functional model of waveforms `(batch, time, 1)` for any number of samples. Its outputs are a list per
        scale of the maps of all layers, `(batch, steps, filters)`, of which the last are logits, `(batch, steps,
        1)`. With one scale Keras gives its list alone.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    net = kr.generative.MultiScaleDiscriminator(scales=2, filters=4, num_layers=2)
    maps = net(np.zeros((1, 256, 1)))
    len(maps), len(maps[0]), maps[0][-1].shape  # 2, 5, (1, 16, 1)
    ```

    Reference: Kundan Kumar and others, *MelGAN: Generative Adversarial Networks for Conditional Waveform
    Synthesis*, NeurIPS 2019, arXiv:1910.06711. Without the authors' weight normalization.
    """
    check_integer("scales", scales, minimum=1)
    check_integer("filters", filters, minimum=4)
    check_integer("num_layers", num_layers, minimum=0)
    check_integer("max_filters", max_filters, minimum=4)
    if filters % 4 or max_filters % 4:
        raise ValueError(
            "`filters` and `max_filters` must be multiples of 4. "
            f"Received: filters={filters}, max_filters={max_filters}"
        )
    inputs = keras.Input((None, 1))
    x, outputs = inputs, []
    for scale in range(scales):
        if scale:
            x = layers.AveragePooling1D(4, 2, padding="same")(x)
        maps, width, y = [], filters, x
        sizes = [(width, 15, 1, 1)]
        for _ in range(num_layers):
            groups, width = width // 4, min(4 * width, max_filters)
            sizes.append((width, 41, 4, groups))
        sizes.append((min(2 * width, max_filters), 5, 1, 1))
        for width, kernel, stride, groups in sizes:
            y = layers.Conv1D(width, kernel, stride, padding="same", groups=groups)(y)
            y = layers.LeakyReLU(0.2)(y)
            maps.append(y)
        outputs.append([*maps, layers.Conv1D(1, 3, padding="same")(y)])
    return keras.Model(inputs, outputs, name="multi_scale_discriminator")


def _gated(x, width):
    """A convolution of 1 × 1 and a gate."""
    value, gate = (layers.Conv2D(width, 1, activation=a)(x) for a in (None, "sigmoid"))
    return layers.Multiply()([value, gate])


@keras.saving.register_keras_serializable("keras_regularize.generative", name="Interpolation")
class _Interpolation(Configured, layers.Layer):
    """More samples of a waveform `(batch, time, 1)`, between those that are given."""

    def __init__(self, upsampling: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.upsampling = upsampling
        reach = _HALF_WIDTH * upsampling
        time = np.arange(-reach, reach + 1) / upsampling
        window = 0.5 + 0.5 * np.cos(np.pi * time / _HALF_WIDTH)
        self._kernel = (np.sinc(time) * window)[:, None, None].astype("float32")

    def call(self, inputs):
        spread = ops.pad(inputs[:, :, None], ((0, 0), (0, 0), (0, self.upsampling - 1), (0, 0)))
        spread = ops.reshape(spread, self.compute_output_shape((-1, *inputs.shape[1:])))
        return ops.conv(spread, ops.convert_to_tensor(self._kernel, spread.dtype), padding="same")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] * self.upsampling, 1)


@keras.saving.register_keras_serializable("keras_regularize.generative", name="Spectrum")
class _Spectrum(Configured, layers.Layer):
    """The transform of a waveform `(batch, time, 1)`: `(batch, frames, fft_size / 2, 2)`, without the last bin."""

    def __init__(self, fft_size: int, hop_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.fft_size, self.hop_size = fft_size, hop_size

    def call(self, inputs):
        x = ops.cast(inputs[..., 0], "float32")
        parts = spectrum(x, self.fft_size, self.hop_size, self.fft_size)
        # Of the size of the waveform, whatever that of a frame.
        stacked = ops.stack(parts, axis=-1)[:, :, :-1] / self.fft_size**0.5
        return ops.cast(stacked, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1 + input_shape[1] // self.hop_size, self.fft_size // 2, 2)


@keras.saving.register_keras_serializable("keras_regularize.generative", name="Waveform")
class _Waveform(Configured, layers.Layer):
    """The waveform `(batch, length, 1)` of a transform `(batch, frames, fft_size / 2, 2)`."""

    def __init__(self, fft_size: int, hop_size: int, length: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.fft_size, self.hop_size, self.length = fft_size, hop_size, length

    def call(self, inputs):
        if inputs.shape[0] == 0:  # Which PyTorch does not transform.
            return ops.zeros((0, self.length, 1), self.compute_dtype)
        x = ops.cast(inputs, "float32") * self.fft_size**0.5
        x = ops.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))
        waveform = ops.istft(
            (x[..., 0], x[..., 1]),
            self.fft_size,
            self.hop_size,
            self.fft_size,
            length=self.length,
            window=periodic_hann(self.fft_size),
        )
        return ops.cast(waveform[..., None], self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.length, 1)
