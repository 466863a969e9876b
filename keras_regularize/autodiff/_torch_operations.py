"""Operations on arrays that PyTorch runs in fewer or faster calls than Keras makes."""

import keras
import numpy as np
import torch
from torch.autograd import forward_ad


def peek(x):
    """A tensor's values as a NumPy array where that needs no waiting, else `None`."""
    if isinstance(x, np.ndarray):
        return x
    if torch.compiler.is_compiling() or type(x) is not torch.Tensor or not x.is_cpu:
        return None
    x = x.detach() if x.requires_grad else x
    try:
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    except RuntimeError:  # Inside of `torch.vmap`.
        return None


def without_records(fn, x):
    """`fn(x)`, many small operations, up to a third faster where no derivative is taken through `x`."""
    derived = (
        t.requires_grad or peek(t) is None or forward_ad.unpack_dual(t).tangent is not None
        for t in keras.tree.flatten(x)
    )
    if any(derived):
        return fn(x)
    with torch.inference_mode():
        found = fn(x)
    return keras.tree.map_structure(torch.clone, found)  # As which it may be differentiated later.


def looked_at(tensors):
    """Tensors as NumPy arrays if all can be had so, which takes a third of the time if they are small."""
    seen = [peek(x) for x in tensors]
    return [torch.as_tensor(x) for x in tensors] if any(x is None for x in seen) else seen


def stack(parts):
    """One tensor of several, or of arrays that `looked_at` has given."""
    if isinstance(parts[0], np.ndarray):
        return torch.from_numpy(np.array(parts))
    return torch.stack(parts)


def take_last(values, indices):
    """`values[…, indices]` along the last axis, for indices that are not negative."""
    return values.gather(-1, indices.long())


def carries_mask(x):
    """Whether a tensor may carry a mask of Keras."""
    return getattr(x, "_keras_mask", None) is not None


def add_last(x, indices, values):
    """`x` with values `(…)` added at `indices (…)` of the last axis, for values without gradient."""
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device).expand(indices.shape)
    return x.scatter_add(-1, indices.long()[..., None], values[..., None])


def put_last(x, indices, values):
    """`x` with the entries at `indices (…)` of the last axis replaced by `values (…)`."""
    return x.scatter(-1, indices.long()[..., None], values[..., None])


def norms(x, axis):
    """Euclidean norms, with the axis kept, if they can be looked at and none is 0, infinite or near to it."""
    found = torch.linalg.vector_norm(x, dim=axis, keepdim=True)
    known = peek(found)
    usual = known is not None and known.size and known.min() > 1e-10 and known.max() < 1e15
    return found if usual else None


def power(x, exponent):
    """`x` to the power of a number, as which Keras does not pass it on: a square takes it five times as long."""
    return x**exponent


def total(x):
    """The sum of all entries, in one call of the few that Keras makes."""
    return x.sum()


def add_product(x, y, z):
    """`x + y · z`, in one operation."""
    return torch.addcmul(x, y, z)


def times(x, matrix):
    """`x @ matrix` for rows or one vector, which is slower as a matrix of one row."""
    return torch.mv(matrix.T, x) if x.ndim == 1 else x @ matrix


def add_times(y, x, matrix, sign=1):
    """`y ± x @ matrix` for rows or one vector, in one operation."""
    if x.ndim == 1:
        return torch.addmv(y, matrix.T, x, alpha=sign)
    return torch.addmm(y, x, matrix, alpha=sign) if x.ndim == 2 else y + sign * (x @ matrix)


def extrapolate(x, y, share):
    """`y + share · (y - x)` for a number `share`, in one operation."""
    return torch.lerp(x, y, 1.0 + share)


def reshape(x, shape):
    """`x` in another shape."""
    return x.reshape(shape)


def roll(x, shift, start):
    """`x` with the entries of its axes from `start` on in a row, moved on and the last ones to the front."""
    if x.ndim == -start:
        return torch.roll(x, shift)
    return torch.roll(x.flatten(start), shift, -1).view(x.shape)


def soft_threshold(x, threshold):
    """`sign(x) max(|x| - t, 0)`, in two operations."""
    return x - torch.clamp(x, -threshold, threshold)


def shorten(x, y, radius):
    """`(x, y)` as vectors of two entries, those longer than a radius shortened to it."""
    length = torch.sqrt(torch.addcmul(x * x, y, y) + 1e-30)
    scale = radius / length.maximum(radius)
    return x * scale, y * scale


def channels_first(x):
    """`x (batch, …, channels)` as `(batch, channels, pixels)`, at a tenth of the time of Keras."""
    return x.flatten(1, -2).transpose(1, 2)


def class_maps(ids, classes, dtype):
    """One-hot `(batch, classes, pixels)` of ids `(batch, …)`; in place, at a quarter of the time of bools cast."""
    each = torch.arange(classes, dtype=dtype, device=ids.device)[:, None]
    return (ids.flatten(1)[:, None] - each).eq_(0)


def log_add_exp(a, b):
    """`log(exp(a) + exp(b))`, in one operation of the ten that Keras makes."""
    return torch.logaddexp(a, b)


def join_last(left, right):
    """Two tensors side by side in the last axis, at a quarter of the time of Keras."""
    return torch.cat((left, right), dim=-1)


def recur(step, start, inputs):
    """`start (2, …, n + 1)` and below it row by row `step(above, left, diagonal, *rows of inputs) (…, n)`.

    Of the row before, these are what is left of each entry and what is at it, and of the one before that what is
    left of it. The first column stays that of `start[1]`.
    """
    steps = list(zip(*(_in_one_piece(x).unbind() for x in inputs)))
    found = start.new_empty((len(steps) + 2, *start.shape[1:]))
    found[:2], found[2:, ..., 0] = start, start[1, ..., 0]
    before, at = found[..., :-1].unbind(), found[..., 1:].unbind()
    for k, given in enumerate(steps):
        at[k + 2].copy_(step(before[k + 1], at[k + 1], before[k], *given))
    return found


def _in_one_piece(x):
    """Steps read rows, whose entries should lie side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def scan(step, carry, inputs, reverse=False):
    """What `step(carry, rows of inputs) -> carry, output` puts out, one after the other, stacked."""
    steps, outputs = list(zip(*(_in_one_piece(x).unbind() for x in inputs))), []
    for given in reversed(steps) if reverse else steps:
        carry, output = step(carry, given)
        outputs.append(output)
    return torch.stack(outputs[::-1] if reverse else outputs)


def scan_with_gradient(step, carry, inputs):
    """`scan`, which has a gradient here."""
    return scan(step, carry, inputs)


def log_softmax(x):
    """Over the last axis, in one call of the dozen that Keras makes."""
    return torch.log_softmax(x, dim=-1) if torch.is_tensor(x) else keras.ops.log_softmax(x)


def first_maximum(x):
    """Position of the largest entry of the last axis, of several the first."""
    values = peek(x)  # NumPy finds it in a tenth of torch's time.
    return x.detach().argmax(dim=-1) if values is None else torch.as_tensor(values.argmax(axis=-1))


def one_hot_ids(rows):
    """The ids `(…)` of one-hot rows, or `None`: of rows that are none, and of those that cannot be looked at."""
    values = None if rows.requires_grad else peek(rows)
    if values is None or not values.size or values.shape[-1] < 2:
        return None
    ids = values.argmax(axis=-1)
    tops = np.take_along_axis(values, ids[..., None], axis=-1)
    one_hot = (tops == 1).all() and np.count_nonzero(values != 0) == ids.size
    return torch.as_tensor(ids) if one_hot else None


def exact_segment_sums(columns, segments, count):
    """Sums `(count, len(columns))` by segment in double precision, in few operations; `None` without that.

    Segments beyond 0 and `count - 1` count there.
    """
    segments, *columns = looked_at([segments, *columns])
    if isinstance(segments, np.ndarray):
        places = np.minimum(np.maximum(segments.ravel(), 0), count - 1)
        sums = [np.bincount(places, column.ravel(), count) for column in columns]
        with np.errstate(over="ignore"):
            return torch.from_numpy(np.array(sums).T.astype("float32", order="C"))
    if segments.device.type == "mps":
        return None
    values = torch.stack(columns, dim=-1).reshape(-1, len(columns)).double()
    sums = torch.zeros((count, len(columns)), dtype=torch.float64, device=values.device)
    return sums.index_add_(0, segments.reshape(-1).clamp(0, count - 1), values).float()


def largest(x):
    """The largest entry of each row `(n, k)` and its position, without gradient; arrays if they can be had so."""
    values = peek(x)
    if values is None:
        return torch.max(x.detach(), dim=-1)
    first = values.argmax(axis=-1)
    return values[np.arange(len(values)), first], first


def cumulative_logsumexp(x):
    """`log Σ_{j ≤ i} exp(x_j)` over the last axis."""
    return torch.logcumsumexp(x, dim=-1)
