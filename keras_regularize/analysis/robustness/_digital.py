"""What cameras, files and things in the way do to images `(batch, height, width, channels)` between 0 and 1."""

import io

import numpy as np

from keras_regularize.analysis.robustness._blur import gaussian_blur, grid, sampled


def pixelate(x, share, rng):
    """Means over the pixels of a coarser grid."""
    for axis in (1, 2):
        length = x.shape[axis]
        count = max(int(length * share), 1)
        edges = np.linspace(0, length, count + 1)
        left = np.maximum(edges[:-1, None], np.arange(length))
        overlap = np.maximum(np.minimum(edges[1:, None], np.arange(length) + 1) - left, 0.0)
        coarse = np.tensordot(overlap * count / length, x, axes=(1, axis))
        index = ((np.arange(length) + 0.5) * count / length).astype(int)
        x = np.moveaxis(coarse[index], 0, axis)
    return x


def occlusion(x, share, rng):
    """A grey square at a random place, with sides of this share of the shorter side."""
    size = max(round(share * min(x.shape[1:3])), 1)
    inside = []
    for length in x.shape[1:3]:
        begin = rng.integers(0, length - size + 1, (len(x), 1))
        inside.append((np.arange(length) >= begin) & (np.arange(length) < begin + size))
    return np.where((inside[0][:, :, None] & inside[1][:, None, :])[..., None], 0.5, x)


def elastic_transform(x, parameters, rng):
    """A random affine map, then smooth random moves of the pixels; parameters are shares of the shorter side."""
    amplitude, smoothness, shift = (min(x.shape[1:3]) * share for share in parameters)
    rows, columns = grid(x)
    middle, reach = np.array(x.shape[1:3]) // 2, min(x.shape[1:3]) // 3
    corners = middle + reach * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = corners + rng.uniform(-shift, shift, (len(x), 3, 2))
    # The map from moved corners back to where they were.
    ones = np.ones((len(x), 3, 1))
    back = np.linalg.solve(
        np.concatenate([moved, ones], axis=2), np.broadcast_to(corners, moved.shape)
    )
    places = np.stack([*np.broadcast_arrays(rows, columns, np.ones_like(rows))], axis=-1)[0]
    source = places @ back[:, None]
    x = sampled(x, source[..., 0], source[..., 1])
    moves = gaussian_blur(rng.uniform(-1, 1, (*x.shape[:3], 2)), smoothness, rng, truncate=3.0)
    return sampled(x, rows + amplitude * moves[..., 0], columns + amplitude * moves[..., 1])


def jpeg_compression(x, quality, rng):
    from PIL import Image  # Pillow, which is no requirement of the package.

    compressed = np.empty_like(x)
    for i, image in enumerate(np.round(255 * np.clip(x, 0, 1)).astype("uint8")):
        file = io.BytesIO()
        Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(
            file, "JPEG", quality=quality
        )
        decoded = np.asarray(Image.open(file), "float64") / 255
        compressed[i] = decoded.reshape(image.shape)
    return compressed
