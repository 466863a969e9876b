"""Blur of images `(batch, height, width, channels)`, whose edges go on beyond the border."""

import numpy as np


def gaussian_blur(x, sigma, rng, truncate=4.0):
    for axis in (1, 2):
        reach = int(truncate * sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-12)) ** 2)
        places = np.arange(x.shape[axis])
        total = np.zeros_like(x)
        for shift, weight in zip(range(-reach, reach + 1), weights / weights.sum()):
            index = np.clip(places + shift, 0, x.shape[axis] - 1)
            total += weight * np.take(x, index, axis=axis)
        x = total
    return x


def defocus_blur(x, parameters, rng):
    """With a disk, whose edge is smoothed."""
    radius, smoothing = parameters
    reach = int(np.ceil(radius)) + 2
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype("float64")
    near = 1 if radius <= 8 else 2
    edge = gaussian_blur(disk[None, :, :, None], smoothing, rng, (near + 0.4) / smoothing)[
        0, :, :, 0
    ]
    kernel = edge / edge.sum()
    rows, columns = (np.arange(length) for length in x.shape[1:3])
    total = np.zeros_like(x)
    for i, j in np.argwhere(kernel > 0):
        row_index = np.clip(rows + line[i], 0, len(rows) - 1)
        column_index = np.clip(columns + line[j], 0, len(columns) - 1)
        total += kernel[i, j] * x[:, row_index][:, :, column_index]
    return total


def motion_blur(x, parameters, rng):
    """Along a line of random direction, up to 45 degrees off the rows."""
    radius, sigma = parameters
    angle = np.pi / 180 * rng.uniform(-45, 45, (len(x), 1, 1))
    rows, columns = grid(x)
    taps = np.arange(2 * max(int(round(radius)), 1) + 1)
    weights = np.exp(-0.5 * (taps / sigma) ** 2)
    total = np.zeros_like(x)
    for tap, weight in zip(taps, weights / weights.sum()):
        total += weight * sampled(x, rows + tap * np.sin(angle), columns + tap * np.cos(angle))
    return total


def zoom_blur(x, factors, rng):
    """The mean of the image and of larger ones."""
    rows, columns = grid(x)
    middle = [(length - 1) / 2 for length in x.shape[1:3]]
    total = x.copy()
    for factor in factors:
        total += sampled(
            x, middle[0] + (rows - middle[0]) / factor, middle[1] + (columns - middle[1]) / factor
        )
    return total / (len(factors) + 1)


def grid(x):
    """Rows and columns of all pixels, `(1, height, width)` each."""
    rows, columns = np.indices(x.shape[1:3], dtype="float64")
    return rows[None], columns[None]


def sampled(x, rows, columns):
    """The images at places between pixels, `(batch or 1, height, width)`, linear in both axes."""
    height, width = x.shape[1:3]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    rows, columns = (np.broadcast_to(t, x.shape[:3]) for t in (rows, columns))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    low, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    images = np.arange(len(x))[:, None, None]
    upper = (1 - across) * x[images, top, left] + across * x[images, top, right]
    lower = (1 - across) * x[images, low, left] + across * x[images, low, right]
    return (1 - down) * upper + down * lower
