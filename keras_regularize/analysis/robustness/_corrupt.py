"""Corruptions of images by name and severity."""

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_regularize.analysis.robustness import _blur, _digital, _light, _noise
from keras_regularize.attacks.bounds import Bounds, check_bounds
from keras_regularize.attacks.channels import per_channel
from keras_regularize.validation import check_choice, check_integer

#: Images with a shorter side below this have the severities of small ones.
SMALL = 64


class _Corruption(NamedTuple):
    """A function `(x, parameter, rng)`, its parameter at each severity, and what in it is a number of pixels.

    These are for images with a side of 32 pixels (small ones) or of 224.
    """

    function: Callable[..., Any]
    small: Sequence[Any]
    large: Sequence[Any]
    lengths: Sequence[bool] = ()
    needs_images: bool = True


_CORRUPTIONS = {
    "gaussian_noise": _Corruption(
        _noise.gaussian_noise,
        (0.04, 0.06, 0.08, 0.09, 0.1),
        (0.08, 0.12, 0.18, 0.26, 0.38),
        needs_images=False,
    ),
    "shot_noise": _Corruption(
        _noise.shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3), needs_images=False
    ),
    "impulse_noise": _Corruption(
        _noise.impulse_noise,
        (0.01, 0.02, 0.03, 0.05, 0.07),
        (0.03, 0.06, 0.09, 0.17, 0.27),
        needs_images=False,
    ),
    "gaussian_blur": _Corruption(
        _blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6), (True,)
    ),
    "defocus_blur": _Corruption(
        _blur.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        (True, False),
    ),
    "motion_blur": _Corruption(
        _blur.motion_blur,
        ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        (True, True),
    ),
    "zoom_blur": _Corruption(
        _blur.zoom_blur,
        tuple(np.arange(1, end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26)),
        tuple(
            np.arange(1, end, step)
            for end, step in ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
        ),
    ),
    "fog": _Corruption(
        _light.fog,
        ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
        ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    ),
    "brightness": _Corruption(
        _light.brightness,
        (0.05, 0.1, 0.15, 0.2, 0.3),
        (0.1, 0.2, 0.3, 0.4, 0.5),
        needs_images=False,
    ),
    "contrast": _Corruption(
        _light.contrast,
        (0.75, 0.5, 0.4, 0.3, 0.15),
        (0.4, 0.3, 0.2, 0.1, 0.05),
        needs_images=False,
    ),
    "elastic_transform": _Corruption(
        _digital.elastic_transform,
        (
            (0.0, 0.0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
        (
            (2.0, 0.7, 0.1),
            (2.0, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        ),
    ),
    "pixelate": _Corruption(
        _digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)
    ),
    "jpeg_compression": _Corruption(
        _digital.jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)
    ),
    "occlusion": _Corruption(
        _digital.occlusion, (0.2, 0.3, 0.4, 0.5, 0.6), (0.2, 0.3, 0.4, 0.5, 0.6)
    ),
}

#: Names of all corruptions.
CORRUPTIONS = tuple(_CORRUPTIONS)


def corrupt(
    x: Any, name: str, severity: int = 1, seed: int = 0, bounds: Bounds = (0.0, 1.0)
) -> np.ndarray:
    r"""Corrupts images as cameras, weather and files do, at a severity from 1 to 5.

    | names | what they do |
    |---|---|
    | `gaussian_noise`, `shot_noise`, `impulse_noise` | noise of the sensor; too little light; dead pixels |
    | `gaussian_blur`, `defocus_blur`, `motion_blur`, `zoom_blur` | blur |
    | `fog`, `brightness`, `contrast` | weather and light |
    | `elastic_transform`, `pixelate`, `jpeg_compression` | distortion, low resolution, compression |
    | `occlusion` | a grey square in front, with sides of 0.2 to 0.6 of the image |

    Severities are those of ImageNet-C, and for images with a shorter side below 64 pixels (or other data of
    fewer than 4096 entries) those of CIFAR-10-C. For images of another size than these have, the reach of blur
    grows with the shorter side; below 32 pixels it stays. The definitions are written anew in NumPy, and single
    images differ from those of the two data sets: take these where figures are compared with papers.

    Args:
        x: Images `(batch, height, width, channels)`, or with the channels first where
            `keras.config.image_data_format()` has them there. Noise, brightness and contrast take data of any
            shape.
        name: One of `kr.analysis.CORRUPTIONS`.
        severity: From 1 to 5.
        seed: Seed of what is random, a non-negative integer.
        bounds: Smallest and largest possible input, each a number or a list of one for each channel: `(0, 255)`,
            say. What comes out is clipped to them.

    Returns:
        An array of the shape and dtype of `x`, rounded where that is of integers.

    Raises:
        ValueError: If an argument is out of range, or data are no images where they have to be, or have other
            channels than 1 or 3 for `jpeg_compression`.
        ImportError: If `jpeg_compression` lacks Pillow.

    Cost: a few passes over the images in float64; some hundred for blur of large ones.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    images = np.random.default_rng(0).random((4, 32, 32, 3))
    foggy = kr.analysis.corrupt(images, "fog", severity=3)
    ```

    Reference: Dan Hendrycks and Thomas Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions
    and Perturbations*, ICLR 2019, arXiv:1903.12261; `occlusion` is not among theirs.
    """
    check_choice("name", name, CORRUPTIONS)
    severity = check_integer("severity", severity, minimum=1, maximum=5)
    seed = check_integer("seed", seed, minimum=0)
    checked = check_bounds(bounds, None)
    if checked is None:
        raise ValueError("`bounds` must be the smallest and largest input. Received: bounds=None")
    x, corruption = np.asarray(x), _CORRUPTIONS[name]
    if x.ndim != 4 and (corruption.needs_images or x.ndim < 2):
        raise ValueError(
            f"`{name}` takes images (batch, height, width, channels). Received: x.shape={x.shape}"
        )
    values = x.astype("float64")
    low, high = (per_channel(bound, values) for bound in checked)
    values = (values - low) / (high - low)
    if values.size and not (values.min() > -1e-3 and values.max() < 1.001):
        raise ValueError(
            f"Expected inputs in {tuple(checked)}: pass the `bounds` of the data. Received inputs from "
            f"{x.min()} to {x.max()}"
        )
    first = keras.config.image_data_format() == "channels_first" and x.ndim == 4
    values = np.clip(np.moveaxis(values, 1, -1) if first else values, 0.0, 1.0)
    if name == "jpeg_compression" and values.shape[-1] not in (1, 3):
        raise ValueError(f"`{name}` takes 1 or 3 channels. Received: x.shape={x.shape}")
    rng = np.random.default_rng((seed, CORRUPTIONS.index(name), severity))
    if values.size:
        parameter = _parameter(corruption, severity, values.shape)
        values = np.clip(corruption.function(values, parameter, rng), 0.0, 1.0)
    values = low + (high - low) * (np.moveaxis(values, -1, 1) if first else values)
    return (values if x.dtype.kind == "f" else np.round(values)).astype(x.dtype)


def _parameter(corruption, severity, shape):
    # Other data as a square image of as many entries.
    side = min(shape[1:3]) if len(shape) == 4 else math.sqrt(math.prod(shape[1:]))
    chosen, full = (corruption.small, 32) if side < SMALL else (corruption.large, 224)
    parameter = chosen[severity - 1]
    if not corruption.lengths:
        return parameter
    scale = max(side, 32) / full
    parts = parameter if isinstance(parameter, tuple) else (parameter,)
    scaled = tuple(p * scale if long else p for p, long in zip(parts, corruption.lengths))
    return scaled if isinstance(parameter, tuple) else scaled[0]


@functools.cache
def _has_pillow():
    return importlib.util.find_spec("PIL") is not None


def suitable(x: np.ndarray) -> tuple[str, ...]:
    """The corruptions that data of this shape can have here."""
    channels = x.shape[1 if keras.config.image_data_format() == "channels_first" else -1]
    names = []
    for name, corruption in _CORRUPTIONS.items():
        if x.ndim != 4 and corruption.needs_images:
            continue
        if name == "jpeg_compression" and not (_has_pillow() and channels in (1, 3)):
            continue
        names.append(name)
    return tuple(names)
