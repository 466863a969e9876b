"""Attack that needs nothing but the scores of a model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.attacks._criteria import criterion
from keras_regularize.attacks.attack import where_samples
from keras_regularize.attacks.bounds import Bounds, check_bounds, clip_to_bounds, in_radii
from keras_regularize.attacks.channels import per_channel
from keras_regularize.attacks.runs import AttackInRuns, fools
from keras_regularize.autodiff import backend
from keras_regularize.numerics import GUARD
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_numbers

#: After how many queries the share of the pixels that a square covers is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
SHARE = 0.8


@export
class Square(AttackInRuns):
    r"""Square attack: random squares of colour, kept where they lower the margin; without any gradient.

    In $L_\infty$ it begins with vertical stripes of $\pm \epsilon$ in each channel. Then each query adds $\pm 2
    \epsilon$ in every channel of a square at a random place, projected into the ball and the bounds. In $L_2$ it
    begins with a grid of tiles; a query takes what the perturbation spends in two squares, empties one of them
    and adds to the other a pattern of two pyramids of opposite sign, at the length of the ball. A sample keeps a
    query if it lowers the margin $z_y - \max_{k \ne y} z_k$, until it is misclassified. Squares cover 80 % of
    the image at first, and half as much after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries.

    As it sees scores alone, it finds what attacks by gradients miss where gradients are masked, or rounded away.
    If it fools a model that these do not, their figures for that model are not to be believed. The result is the
    input itself where nothing was found.

    Args:
        epsilon: Radius of the ball, in units of the inputs, at least 0; or a list of one for each channel, as for
            images that were standardized channel by channel (`[8 / 255 / s for s in deviations]`). Channels are
            the axis of `keras.config.image_data_format()`. In $L_2$ radii are those of an ellipsoid, which is the
            ball before standardizing.
        queries: Number of queries, at least 1.
        norm: `"linf"` or `"l2"`.
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`,
            for inputs without any. The search is clipped into them; inputs farther than `epsilon` outside are an
            error.
        layer: Layer, or its name, whose output is perturbed instead of the inputs; `bounds` must then be `None`.
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        seed: Seed of the squares, which are the same for all samples of a batch.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.

    Call: `attack(model, x, y)` returns images like `x`. What is perturbed must be one tensor of images
    `(batch, height, width, channels)`, in the order of `keras.config.image_data_format()`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, what is perturbed are no images, or inputs
            lie farther than `epsilon` outside the bounds.

    Cost: `queries` + 1 forward passes, fewer once all samples of a batch are misclassified; with `layer` one more.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    x = np.random.default_rng(0).random((5, 8, 8, 1), dtype="float32")
    adversarial = kr.attacks.Square(epsilon=0.1, queries=50)(model, x, np.array([0, 1, 2, 3, 4]))
    ```

    Reference: Andriushchenko, Croce, Flammarion and Hein, *Square Attack: a query-efficient black-box
    adversarial attack via random search*, ECCV 2020, arXiv:1912.00049. As in the paper, squares may touch every
    border, which in the authors' code they do not at the right and below. Differs in attacking misclassified
    inputs too.
    """

    def __init__(
        self,
        epsilon: float | Sequence[float] = 8 / 255,
        queries: int = 5000,
        norm: str = "linf",
        bounds: Bounds | None = (0.0, 1.0),
        layer: Any = None,
        from_logits: bool | None = None,
        seed: int | None = None,
        inputs: Sequence[str | int] | None = None,
    ):
        super().__init__(layer=layer, from_logits=from_logits, seed=seed, inputs=inputs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.queries = check_integer("queries", queries, minimum=1)
        self.norm = check_choice("norm", norm, ("linf", "l2"))
        self.bounds = check_bounds(bounds, layer)

    def run(self, point, y):
        images = _Images(point.start)
        value = criterion("margin", point, y, self)
        propose = self._stripes if self.norm == "linf" else self._pyramids

        def evaluate(x):
            outputs = point.outputs([x])
            return value(outputs), fools(point, y, self, outputs)

        def run(_):
            first, following = propose(images)
            x = first

            def unfinished(i, x, margins, fooled):
                return ops.logical_and(i < self.queries, ops.logical_not(ops.all(fooled)))

            def query(i, x, margins, fooled):
                new = following(i, x)
                new_margins, now = evaluate(new)
                better = ops.logical_or(now, new_margins > margins)
                better = ops.logical_and(better, ops.logical_not(fooled))
                (x,) = where_samples(better, [new], [x])
                margins = ops.where(better, new_margins, margins)
                return i + 1, x, margins, ops.logical_or(fooled, now)

            state = (ops.convert_to_tensor(0, "int32"), x, *evaluate(x))
            _, x, _, fooled = ops.while_loop(unfinished, backend.in_branch(query), state)
            return fooled, [x]

        return run

    def _stripes(self, images):
        """The first image in L-infinity, and the next one of query `i` at `x`."""
        epsilon = per_channel(self.epsilon, images.start)
        low, high = clip_to_bounds([images.start - epsilon, images.start + epsilon], self.bounds)

        def inside(x):
            return ops.minimum(ops.maximum(x, low), high)

        stripe_shape = (ops.shape(images.start)[0], 1, images.width, images.channels)
        stripes = images.ordered(self._signs(stripe_shape, images.start.dtype))
        sizes = square_sizes(self.queries, images.height, images.width, 1)
        square = images.squares(self._uniform((self.queries, 2)), sizes)
        colors = 2.0 * self._signs((self.queries, images.channels), images.start.dtype)

        def following(i, x):
            color = epsilon * images.of_channels(ops.take(colors, i, axis=0))
            return inside(x + color * square(i))

        return inside(images.start + epsilon * stripes), following

    def _pyramids(self, images):
        """The same in L2, with perturbations in units of the radius."""
        start, dtype = images.start, images.start.dtype
        epsilon = per_channel(self.epsilon, start)
        sizes = square_sizes(self.queries, images.height, images.width, 3)
        different = np.unique(sizes)
        largest = different[-1]
        patterns = np.zeros((len(different), 2, largest, largest), "float32")
        for table, size in zip(patterns, different):
            table[0, :size, :size] = pyramids(size)
            table[1] = table[0].T
        which = ops.convert_to_tensor(np.searchsorted(different, sizes).astype("int32"))
        patterns = ops.convert_to_tensor(patterns)
        places = self._uniform((self.queries, 4))
        square, emptied_square = (
            images.squares(part, sizes) for part in ops.split(places, 2, axis=1)
        )
        sizes = ops.convert_to_tensor(sizes)
        turned = ops.cast(self._uniform((self.queries,)) > 0.5, "int32")
        signs = self._signs((self.queries, ops.shape(start)[0], images.channels), dtype)

        def inside(x):
            return clip_to_bounds([x], self.bounds)[0]

        def at_length(delta):
            return delta / (ops.sqrt(images.total(delta * delta)) + GUARD)

        def following(i, x):
            (delta,) = in_radii([x - start], self.epsilon)
            top, left, _, _ = ops.unstack(ops.take(places, i, axis=0), 4)
            size = ops.take(sizes, i)
            mask, emptied = square(i), emptied_square(i)
            pattern = ops.take(
                ops.take(patterns, ops.take(which, i), axis=0), ops.take(turned, i), axis=0
            )
            new = images.placed(ops.cast(pattern, dtype), top, left, size) * mask
            new = new * images.of_channels(ops.take(signs, i, axis=0))
            old = delta * mask
            new = new + old / (GUARD + ops.sqrt(images.over_pixels(old * old)))
            unspent = ops.maximum(1.0 - images.total(delta * delta), 0.0) / images.channels
            spent = images.over_pixels(ops.square(delta * ops.maximum(mask, emptied)))
            new = (
                new / (GUARD + ops.sqrt(images.over_pixels(new * new))) * ops.sqrt(unspent + spent)
            )
            delta = delta * (1.0 - mask) * (1.0 - emptied) + new * mask
            return inside(start + epsilon * at_length(delta))

        return inside(start + epsilon * at_length(self._tiles(images))), following

    def _tiles(self, images):
        """A grid of patterns, each of random sign in every channel, and turned or not."""
        size = max(images.height // 5, 1)
        margin = max((images.height - 5 * size) // 2, 0)
        places = [np.arange(length) - margin for length in (images.height, images.width)]
        grid = [length // size for length in (images.height, images.width)]
        inside = np.outer(*((p >= 0) & (p < n * size) for p, n in zip(places, grid)))
        tiles = [np.clip(p // size, 0, n - 1) for p, n in zip(places, grid)]
        pattern, cell = pyramids(size), np.ix_(*(p % size for p in places))
        plain, turned = (
            ops.convert_to_tensor((part[cell] * inside)[None, :, :, None], images.start.dtype)
            for part in (pattern, pattern.T)
        )
        batch = ops.shape(images.start)[0]

        def drawn(channels):
            signs = self._signs((batch, *grid, channels), images.start.dtype)
            return ops.take(ops.take(signs, tiles[0], axis=1), tiles[1], axis=2)

        signs, turns = drawn(images.channels), drawn(1)
        return images.ordered(signs * ops.where(turns > 0, turned, plain))

    def _uniform(self, shape):
        return keras.random.uniform(shape, seed=self.seed_generator)

    def _signs(self, shape, dtype):
        return ops.cast(ops.where(self._uniform(shape) > 0.5, 1.0, -1.0), dtype)


class _Images:
    """What is perturbed as images: where its axes are, and squares in it."""

    def __init__(self, leaves):
        first = keras.config.image_data_format() == "channels_first"
        shapes = [tuple(leaf.shape) for leaf in leaves]
        if len(leaves) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:]:
            order = "channels, height, width" if first else "height, width, channels"
            raise ValueError(
                f"`Square` perturbs images, one tensor (batch, {order}) of known size. "
                f"Received inputs of shapes {shapes}"
            )
        (self.start,) = leaves
        self.order = (0, 3, 1, 2) if first else (0, 1, 2, 3)
        self.pixels = (2, 3) if first else (1, 2)
        sizes = self.start.shape
        self.height, self.width = sizes[self.pixels[0]], sizes[self.pixels[1]]
        self.channels = sizes[1 if first else 3]

    def ordered(self, x):
        """`(batch, height, width, channels)` in the order of the images."""
        return x if self.order == (0, 1, 2, 3) else ops.transpose(x, self.order)

    def of_channels(self, values):
        """A number per channel `(channels,)`, or `(batch, channels)`, in a shape that broadcasts."""
        return self.ordered(ops.reshape(values, (-1, 1, 1, self.channels)))

    def over_pixels(self, x):
        return ops.sum(x, axis=self.pixels, keepdims=True)

    def total(self, x):
        return ops.sum(x, axis=(1, 2, 3), keepdims=True)

    def squares(self, places, sizes):
        """A function of `i`: 1 in square `i`, whose place `(queries, 2)` are numbers between 0 and 1, else 0.

        Rows and columns of all squares are found at once, since that takes a dozen small operations.
        """
        rows, columns = (
            ops.cast(self._inside(places[:, axis], length, sizes), self.start.dtype)
            for axis, length in enumerate((self.height, self.width))
        )

        def square(i):
            row, column = ops.take(rows, i, axis=0), ops.take(columns, i, axis=0)
            return self.ordered((row[:, None] * column)[None, :, :, None])

        return square

    def placed(self, pattern, top, left, size):
        """A pattern with its corner in that of the square."""
        for axis, (place, length) in enumerate(((top, self.height), (left, self.width))):
            index = ops.arange(length, dtype="int32") - _corner(place, length, size)
            index = ops.clip(index, 0, pattern.shape[axis] - 1)
            pattern = ops.take(pattern, index, axis=axis)
        return self.ordered(pattern[None, :, :, None])

    def _inside(self, places, length, sizes):
        """Which entries of an axis are in each square, `(queries, length)`."""
        sizes = ops.convert_to_tensor(sizes)[:, None]
        index = ops.arange(length, dtype="int32") - _corner(places[:, None], length, sizes)
        return ops.logical_and(index >= 0, index < sizes)


def _corner(place, length, size):
    count = length - size + 1
    return ops.minimum(ops.cast(place * ops.cast(count, "float32"), "int32"), count - 1)


def square_sizes(queries, height, width, least):
    """The side of the square of each query; of at least 3, they are odd."""
    halvings = np.searchsorted(HALVINGS, np.arange(queries), side="left")
    sizes = np.round(np.sqrt(SHARE * height * width / 2.0**halvings)).astype("int32")
    sizes = np.maximum(sizes, least)
    if least > 1:
        sizes = sizes + 1 - sizes % 2
    return np.minimum(sizes, min(height, width)).astype("int32")


def pyramids(size):
    """Two pyramids side by side, one up and one down, together of length 1."""
    half = size // 2
    table = np.concatenate([_pyramid(half, size), -_pyramid(size - half, size)])
    return table / np.linalg.norm(table)


def _pyramid(height, width):
    """Falls with the distance to the middle: `Σ_{k ≥ distance} 1 / (k + 1)²`, scaled to length 1."""
    rows, columns = (np.abs(np.arange(n) - n // 2) for n in (height, width))
    steps = 1.0 / np.arange(1, max(height // 2, width // 2) + 2) ** 2
    table = np.cumsum(steps[::-1])[::-1][np.maximum(rows[:, None], columns[None, :])]
    return table / max(np.linalg.norm(table), GUARD)
