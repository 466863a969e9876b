"""Light: of images `(batch, height, width, channels)` between 0 and 1, or other data."""

import numpy as np


def brightness(x, rise, rng):
    """Adds to the value of HSV, the largest channel; hue and saturation stay."""
    value = x.max(axis=-1, keepdims=True) if x.ndim == 4 else x
    brighter = np.minimum(value + rise, 1.0)
    return np.where(value > 0, x * brighter / np.where(value > 0, value, 1.0), brighter)


def contrast(x, factor, rng):
    """Draws every channel towards its mean over the image, or an input of one axis towards its own."""
    mean = x.mean(axis=tuple(range(1, max(x.ndim - 1, 2))), keepdims=True)
    return mean + factor * (x - mean)


def fog(x, parameters, rng):
    """Adds clouds, and scales back to the brightest pixel."""
    density, decay = parameters
    height, width = x.shape[1:3]
    clouds = plasma(len(x), max(height, width), decay, rng)[:, :height, :width, None]
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + density * clouds) * brightest / (brightest + density)


def plasma(count, side, decay, rng):
    """Fractal clouds between 0 and 1 by the diamond-square algorithm on a torus: `(count, n, n)`, `n ≥ side`."""
    size = 1 << max(int(side - 1).bit_length(), 1)
    clouds, step, spread = np.zeros((count, size, size)), size, 100.0
    while step > 1:
        half, spread_of_mean = step // 2, spread * spread

        def mean(total, amplitude=spread_of_mean):
            return total / 4 + rng.uniform(-amplitude, amplitude, total.shape)

        corners = clouds[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        clouds[:, half::step, half::step] = mean(rows + np.roll(rows, -1, axis=2))
        centres = clouds[:, half::step, half::step]
        across = corners + np.roll(corners, -1, axis=2) + centres + np.roll(centres, 1, axis=1)
        clouds[:, ::step, half::step] = mean(across)
        down = corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=2)
        clouds[:, half::step, ::step] = mean(down)
        step, spread = half, spread / decay
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    return clouds / clouds.max(axis=(1, 2), keepdims=True)
