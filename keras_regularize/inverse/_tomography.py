"""Images from projections through them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.inverse._operators import LinearOperator
from keras_regularize.inverse._total_variation import (
    chambolle_pock,
    space_variant_weights,
)
from keras_regularize.numerics import upcast
from keras_regularize.validation import check_integer, compatible


def radon_operator(
    shape: Sequence[int], angles: Any, num_detectors: int | None = None, dense: bool = False
) -> Any:
    r"""Projections of an image in parallel beams, and their adjoint.

    At angle $\theta$ the detector at offset $t$ measures the integral of the image over the strip of width 1
    around $x \cos \theta + y \sin \theta = t$, exactly for an image of square pixels of side 1; $x$ counts columns
    and $y$ rows from the centre. Each projection of an image inside of the detectors sums to its pixels. The
    adjoint is exactly that of the map, as solvers need it, and no inversion.

    Args:
        shape: Height and width of the images.
        angles: Angles $\theta$ in radians, `(num_angles,)`; half a turn has all that there is.
        num_detectors: Number of detectors, at least 1; `None` for the diagonal of the image.
        dense: Whether to return the matrix `(num_angles * num_detectors, height * width)`, for small images.

    Returns:
        A pair of functions: `forward` from images `(…, height, width)` to projections `(…, num_angles,
        num_detectors)`, and its `adjoint`. With `dense` the matrix of `forward`, an array.

    Raises:
        ValueError: If a size is out of range or there is no angle.

    Cost: three additions per pixel and angle; three weights and places of each are kept.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    angles = np.linspace(0.0, np.pi, 8, endpoint=False)
    forward, adjoint = kr.inverse.radon_operator((16, 16), angles)
    forward(np.ones((16, 16))).shape  # (8, 23)
    ```

    Reference: Avinash C. Kak and Malcolm Slaney, *Principles of Computerized Tomographic Imaging*, SIAM 2001.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise ValueError(f"`shape` must be (height, width). Received: shape={shape!r}")
    height, width = (check_integer("shape", size, minimum=1) for size in shape)
    angles = np.asarray(angles, "float64")
    if angles.ndim != 1 or not angles.size or not np.all(np.isfinite(angles)):
        raise ValueError(
            f"`angles` must be finite numbers of shape (num_angles,). Received: angles={angles!r}"
        )
    count = num_detectors if num_detectors is not None else math.ceil(math.hypot(height, width))
    check_integer("num_detectors", count, minimum=1)
    places, weights = _footprints(height, width, angles, count)
    rows = len(angles) * count
    if dense:
        matrix = np.zeros((rows + 1, height * width), "float32")
        pixels = np.broadcast_to(np.arange(height * width), places.shape)
        np.add.at(matrix, (places, pixels), weights)
        return matrix[:-1]
    flat = places.ravel()

    def forward(x: Any) -> Any:
        x = upcast(x)
        if not compatible(x.shape[-2:], (height, width)):
            raise ValueError(
                f"Expected images (…, {height}, {width}). Received: shape={tuple(x.shape)}"
            )
        before = ops.shape(x)[:-2]
        x = ops.reshape(x, (-1, 1, height * width))
        parts = x[:, None] * ops.convert_to_tensor(weights, dtype=x.dtype)
        parts = ops.transpose(ops.reshape(parts, (-1, flat.size)))
        sums = ops.segment_sum(parts, ops.convert_to_tensor(flat), num_segments=rows + 1)
        return ops.reshape(ops.transpose(sums[:-1]), (*before, len(angles), count))

    def adjoint(y: Any) -> Any:
        y = upcast(y)
        if not compatible(y.shape[-2:], (len(angles), count)):
            raise ValueError(
                f"Expected projections (…, {len(angles)}, {count}). Received: shape={tuple(y.shape)}"
            )
        before = ops.shape(y)[:-2]
        y = ops.pad(ops.reshape(y, (-1, rows)), ((0, 0), (0, 1)))
        found = ops.take(y, ops.convert_to_tensor(places), axis=1)
        images = ops.sum(found * ops.convert_to_tensor(weights, dtype=y.dtype), axis=(1, 2))
        return ops.reshape(images, (*before, height, width))

    return LinearOperator(forward, adjoint)


def space_variant_reconstruct(
    y: Any,
    operator: Any,
    factor: float,
    shape: Sequence[int],
    pre_estimate: Any = "tv",
    eta: float = 2e-3,
    p: float = 0.5,
    nonnegative: bool = True,
    iterations: int = 500,
    rough_iterations: int = 50,
) -> Any:
    r"""An image from few noisy measurements, by a total variation that spares the edges of a first estimate.

    In three steps: a rough solution by plain total variation and few iterations of `chambolle_pock`; an estimate
    $\tilde x$ from it, that solution itself or what a model makes of it; and the minimizer of

    $$\tfrac12 \|A x - y\|^2 + \lambda \sum_i w_i(\tilde x)\, |D x|_i,\qquad x \ge 0,$$

    with the weights of `space_variant_weights`. Flat regions are smoothed as by plain total variation, while edges
    cost little, so that a larger $\lambda$ does not wash them out.

    Args:
        y: Measurements, as for `chambolle_pock`.
        operator: $A$, as for `chambolle_pock`.
        factor: $\lambda \ge 0$, in both solutions.
        shape: Shape of an image, `(height, width)` or `(height, width, channels)`.
        pre_estimate: `"tv"` for the rough solution; a Keras model, or a function, that is given the rough images
            `(batch, height, width, channels)` and returns better ones, such as one trained by
            `kr.losses.ElasticGradient`; or the estimate itself, `(…, *shape)`.
        eta: $\eta > 0$, in units of the image, see `space_variant_weights`.
        p: $0 < p \le 1$, see there.
        nonnegative: Whether to search among images without negative entries.
        iterations: Number of iterations of the last step, which starts at the rough solution.
        rough_iterations: Number of iterations of the first.

    Returns:
        The images `(…, *shape)`.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit.

    Cost: that of `chambolle_pock` for all iterations, and a pass of the model.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    image = np.zeros((16, 16), "float32")
    image[4:12, 4:12] = 1.0
    radon = kr.inverse.radon_operator((16, 16), np.linspace(0.0, np.pi, 6, endpoint=False))
    y = radon.forward(image)
    found = kr.inverse.space_variant_reconstruct(y, radon, 0.05, shape=(16, 16), iterations=100)
    ```

    Reference: Elena Morotti, Davide Evangelista, Andrea Sebastiani and Elena Loli Piccolomini, *Space-Variant
    Total Variation boosted by learning techniques in few-view tomographic imaging*, 2024, arXiv:2404.16900.
    """
    if isinstance(pre_estimate, str) and pre_estimate != "tv":
        raise ValueError(
            '`pre_estimate` must be "tv", a model or an image. '
            f"Received: pre_estimate={pre_estimate!r}"
        )
    arguments = {"nonnegative": nonnegative}
    rough = chambolle_pock(y, operator, factor, shape, iterations=rough_iterations, **arguments)
    if callable(pre_estimate):
        images = ops.reshape(rough, (-1, *shape, *((1,) if len(shape) == 2 else ())))
        estimate = upcast(pre_estimate(images))
        if not compatible(estimate.shape, images.shape):
            raise ValueError(
                f"`pre_estimate` must keep the shape {tuple(images.shape)} of images. "
                f"Received: shape={tuple(estimate.shape)}"
            )
        estimate = ops.reshape(estimate, ops.shape(rough))
    else:
        estimate = rough if isinstance(pre_estimate, str) else upcast(pre_estimate)
        if not compatible(tuple(estimate.shape[-len(shape) :]), tuple(shape)):
            raise ValueError(
                f"`pre_estimate` must be images (…, {', '.join(map(str, shape))}). "
                f"Received: shape={tuple(estimate.shape)}"
            )
    if len(shape) == 2:  # The last axis is no channel.
        weights = space_variant_weights(estimate[..., None], eta, p)[..., 0]
    else:
        weights = space_variant_weights(estimate, eta, p)
    return chambolle_pock(
        y, operator, factor, shape, weights, iterations=iterations, x0=rough, **arguments
    )


def _footprints(height, width, angles, count):
    """Places in the flat projections, and weights, of the at most three strips below each pixel: `(3, angles,
    pixels)`.

    A pixel's shadow is the convolution of two boxes of widths |cos| and |sin|; the part of it in a strip is a
    difference of its distribution function. What misses the detectors has the place behind the last.
    """
    rows = np.arange(height) - (height - 1) / 2
    columns = np.arange(width) - (width - 1) / 2
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    offsets = cos * np.tile(columns, height) + sin * np.repeat(rows, width)
    wide, narrow = (np.maximum(np.abs(part), 1e-6) for part in (cos, sin))
    left = offsets - (wide + narrow) / 2 + count / 2  # In strips from the first.
    first = np.floor(left)

    def below(border):
        """Part of the shadow below a border."""
        ramps = [
            np.square(np.maximum(border - left - start, 0.0))
            for start in (0.0, wide, narrow, wide + narrow)
        ]
        return (ramps[0] - ramps[1] - ramps[2] + ramps[3]) / (2 * wide * narrow)

    borders = [below(first + k) for k in range(1, 3)]
    weights = np.stack([borders[0], borders[1] - borders[0], 1.0 - borders[1]])
    strips = np.stack([first, first + 1, first + 2])
    inside = (strips >= 0) & (strips < count)
    places = strips + count * np.arange(len(angles))[:, None]
    places = np.where(inside, places, len(angles) * count)
    return places.astype("int32"), np.where(inside, weights, 0.0).astype("float32")
