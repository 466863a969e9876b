"""Pixels beside their neighbours: arrays `(batch, classes, *spatial)` moved by a pixel, eroded and dilated."""

from keras import ops


def moved(x, steps, fill=0.0):
    """`x` whose entry at a position is that `steps` further along the axes of space, `fill` beyond the image."""
    for axis, step in enumerate(steps, start=len(x.shape) - len(steps)):
        if step:
            before, here = [slice(None)] * axis, [(0, 0)] * len(x.shape)
            here[axis] = (max(-step, 0), max(step, 0))
            cut = slice(step, None) if step > 0 else slice(None, step)
            x = ops.pad(x[(*before, cut)], here, constant_values=fill)
    return x


def cross(rank):
    """The `2 · rank` steps to the nearest neighbours."""
    return [
        tuple(sign * (i == axis) for i in range(rank)) for axis in range(rank) for sign in (1, -1)
    ]


def eroded(mask):
    """The least of each pixel of `(batch, classes, *spatial)` and its nearest neighbours, 0 beyond the image."""
    least = mask
    for steps in cross(len(mask.shape) - 2):
        least = ops.minimum(least, moved(mask, steps))
    return least


def pooled(x, size):
    """The largest of a box of `size` around each pixel of `(batch, classes, *spatial)`, cut at the rim."""
    space = tuple(ops.shape(x)[2:])
    flat = ops.reshape(x, (-1, *space, 1))
    largest = ops.max_pool(flat, size, strides=1, padding="same", data_format="channels_last")
    return ops.reshape(largest, (-1, x.shape[1], *space))


def boxed(x, reach, combine, fill):
    """Minimum or maximum of a box of `2 · reach + 1` around each pixel; beyond the image is `fill`."""
    width, rank = 2 * reach + 1, len(x.shape)
    x = ops.pad(x, [(0, 0)] * 2 + [(reach, reach)] * (rank - 2), constant_values=fill)
    for axis in range(2, rank):
        before, span = (slice(None),) * axis, 1
        while span < width:  # Two overlapping spans make a larger one.
            step = min(span, width - span)
            x = combine(x[(*before, slice(None, -step))], x[(*before, slice(step, None))])
            span += step
    return x
