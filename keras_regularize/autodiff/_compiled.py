"""What is the same on JAX and TensorFlow, where steps are compiled: operations of Keras, which compilers join."""

import contextlib
import math

import keras


def jvp(fn, x, tangents):
    """`(outputs, products)` of `fn(*x)`; `x` and `tangents` are sequences of tensors."""
    return keras.ops.jvp(fn, tuple(x), tuple(tangents))


def no_recording():
    """Context in which derivatives are not themselves recorded for an outer derivative (nothing to do)."""
    return contextlib.nullcontext()


def hessian_products(fn, x):
    """`None`: a compiled program shares nothing with the next one."""


def random_states():
    """State of random numbers outside of the model's variables (none here)."""
    return []


def is_compiling():
    """Whether `torch.compile` is at work, which runs Python code of its own kind only."""
    return False


def take_last(values, indices):
    """`values[…, indices]` along the last axis, for indices that are not negative."""
    return keras.ops.take_along_axis(values, indices, axis=-1)


def carries_mask(x):
    """Whether a tensor may carry a mask of Keras."""
    return True


def add_product(x, y, z):
    """`x + y · z`."""
    return x + y * z


def without_records(fn, x):
    """`fn(x)`."""
    return fn(x)


def times(x, matrix):
    """`x @ matrix` for rows or one vector."""
    return x @ matrix if len(x.shape) > 1 else (x[None] @ matrix)[0]


def add_times(y, x, matrix, sign=1):
    """`y ± x @ matrix` for rows or one vector."""
    product = times(x, matrix)
    return y + product if sign > 0 else y - product


def extrapolate(x, y, share):
    """`y + share · (y - x)`."""
    return y + share * (y - x)


def reshape(x, shape):
    """`x` in another shape."""
    return keras.ops.reshape(x, shape)


def roll(x, shift, start):
    """`x` with the entries of its axes from `start` on in a row, moved on and the last ones to the front."""
    shape = keras.ops.shape(x)
    rows = keras.ops.reshape(x, (*shape[:start], math.prod(shape[start:])))
    return keras.ops.reshape(keras.ops.roll(rows, shift, axis=-1), shape)


def soft_threshold(x, threshold):
    """`sign(x) max(|x| - t, 0)`; one of both terms is 0."""
    return keras.ops.relu(x - threshold) - keras.ops.relu(-threshold - x)


def shorten(x, y, radius):
    """`(x, y)` as vectors of two entries, those longer than a radius shortened to it."""
    length = keras.ops.sqrt(x * x + y * y + 1e-30)
    scale = radius / (length + keras.ops.relu(radius - length))
    return x * scale, y * scale


def channels_first(x):
    """`x (batch, …, channels)` as `(batch, channels, pixels)`."""
    pixels = math.prod(keras.ops.shape(x)[1:-1])
    return keras.ops.transpose(keras.ops.reshape(x, (-1, pixels, x.shape[-1])), (0, 2, 1))


def class_maps(ids, classes, dtype):
    """One-hot `(batch, classes, pixels)` of ids `(batch, …)`."""
    ids = keras.ops.reshape(ids, (-1, 1, math.prod(keras.ops.shape(ids)[1:])))
    each = keras.ops.arange(classes, dtype=ids.dtype)[:, None]
    return keras.ops.cast(keras.ops.equal(ids, each), dtype)


def log_add_exp(a, b):
    """`log(exp(a) + exp(b))`."""
    return keras.ops.logaddexp(a, b)


def join_last(left, right):
    """Two tensors side by side in the last axis."""
    return keras.ops.concatenate([left, right], axis=-1)


def recur(step, start, inputs):
    """`start (2, …, n + 1)` and below it row by row `step(above, left, diagonal, *rows of inputs) (…, n)`.

    Of the row before, these are what is left of each entry and what is at it, and of the one before that what is
    left of it. The first column stays that of `start[1]`.
    """
    column = start[1][..., :1]

    def body(carry, given):
        last, last_but_one = carry
        row = step(last[..., :-1], last[..., 1:], last_but_one[..., :-1], *given)
        row = join_last(column, row)
        return (row, last), row

    found = scan(body, (start[1], start[0]), inputs)
    return keras.ops.concatenate([start, found], axis=0)


def scan(step, carry, inputs, reverse=False):
    """What `step(carry, rows of inputs) -> carry, output` puts out, one after the other, stacked."""

    def body(carry, given):
        carry, output = step(carry, given)
        return carry, (output, *carry[1:])  # TensorFlow wants outputs like the carry.

    return keras.ops.scan(body, carry, inputs, reverse=reverse)[1][0]


def add_last(x, indices, values):
    """`x` with values `(…)` added at `indices (…)` of the last axis, for values without gradient."""
    ops = keras.ops
    places = ops.equal(indices[..., None], ops.arange(x.shape[-1], dtype="int32"))
    return x + ops.where(places, ops.cast(values, x.dtype)[..., None], 0.0)


#: Slopes are not written where a compiler joins passes.
in_place = None


def with_slopes(plain, slopes, x, y):
    """`plain(x, y)`: a compiler joins the passes of its derivative by itself."""
    return plain(x, y)


def put_last(x, indices, values):
    """`x` with the entries at `indices (…)` of the last axis replaced by `values (…)`."""
    ops = keras.ops
    places = ops.equal(indices[..., None], ops.arange(x.shape[-1], dtype="int32"))
    return ops.where(places, values[..., None], x)


def norms(x, axis):
    """`None`: norms cannot be looked at where a step is compiled."""


def power(x, exponent):
    """`x` to the power of a number."""
    return keras.ops.power(x, exponent)


def total(x):
    """The sum of all entries."""
    return keras.ops.sum(x)


def log_softmax(x):
    """Over the last axis."""
    return keras.ops.log_softmax(x, axis=-1)


def first_maximum(x):
    """Position of the largest entry of the last axis, of several the first."""
    ops = keras.ops
    x = ops.stop_gradient(x)
    # `ops.argmax` takes a hundred times as long as `ops.amax` on JAX. A row of NaNs has no largest entry, and
    # the position must exist all the same.
    last = x.shape[-1] - 1
    tops = x >= ops.amax(x, axis=-1, keepdims=True)
    return ops.amin(ops.where(tops, ops.arange(last + 1, dtype="int32"), last), axis=-1)


def one_hot_ids(rows):
    """`None`: rows cannot be looked at where a step is compiled."""


def looked_at(tensors):
    """The tensors as they are: a compiler joins operations."""
    return tensors


def stack(parts):
    """One tensor of several."""
    return keras.ops.stack(parts)


def exact_segment_sums(columns, segments, count):
    """`None`: there is no operation of its own for that."""
