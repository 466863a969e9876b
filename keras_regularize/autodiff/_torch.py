"""PyTorch: differentiation, and averaging over the processes of `torch.distributed`."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = False
# Whether operations run one by one: few large ones are fast then, and no compiler joins small ones.
RUNS_ONE_BY_ONE = True
# Whether Keras' means of losses divide float64 in float32.
DIVIDES_IN_FLOAT32 = True


def differentiate(fn, x):
    """`(value, aux), gradients` of `fn(x) -> (scalar, aux)`; `x` is a nested structure of tensors."""
    with _recording() as record:
        x = _fresh(x, record)
        flat = type(x) is list and all(
            torch.is_tensor(leaf) for leaf in x
        )  # The weights of a model.
        leaves = x if flat else keras.tree.flatten(x)
        value, aux = fn(x)
        if value.requires_grad:
            gradients = torch.autograd.grad(
                value, leaves, create_graph=record, allow_unused=True, materialize_grads=True
            )
        else:
            gradients = [torch.zeros_like(leaf) for leaf in leaves]
    if not record:
        value, aux = _detached((value, aux))
    gradients = list(gradients)
    return (value, aux), gradients if flat else keras.tree.pack_sequence_as(x, gradients)


def jvp(fn, x, tangents):
    """`(outputs, products)` of `fn(*x)`; `x` and `tangents` are sequences of tensors."""
    # The derivative of the vector-Jacobian product, which is linear in its vector, along the tangents.
    # Forward mode (`torch.func.jvp`) has no fused attention, batch statistics or `autograd.grad` inside.
    options = {"allow_unused": True, "materialize_grads": True}
    with _recording(twice=True) as record:
        x = _fresh(list(x), record)
        outputs = fn(*x)
        moving = [t for t in keras.tree.flatten(outputs) if torch.is_tensor(t) and t.requires_grad]
        vectors = [torch.zeros_like(t, requires_grad=True) for t in moving]
        pulled: Sequence[Any] = ()
        if moving:
            pulled = torch.autograd.grad(moving, x, vectors, create_graph=True, **options)
        pairs = [(p, t) for p, t in zip(pulled, tangents) if p.requires_grad]
        pushed: Sequence[Any] = ()
        if pairs:
            pulled, tangents = zip(*pairs)
            pushed = torch.autograd.grad(pulled, vectors, tangents, create_graph=record, **options)
    products = {id(t): product for t, product in zip(moving, pushed)}
    products = keras.tree.map_structure(lambda t: products.get(id(t)), outputs)
    return (outputs if record else _detached(outputs)), products


@contextlib.contextmanager
def _recording(twice=False):
    """Records operations for a derivative (or `twice`); yields whether that itself is to be recorded."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "Nothing can be differentiated under `torch.inference_mode`: use `torch.no_grad`."
        )
    record = torch.is_grad_enabled()
    # Only the math kernel of the fused attention has a second derivative.
    kernels = sdpa_kernel(SDPBackend.MATH) if record or twice else contextlib.nullcontext()
    with torch.enable_grad(), kernels:
        yield record


def _fresh(x, record):
    # A fresh node per leaf: connected to `x` if an outer derivative records, a constant elsewhere in `fn`.
    return _mapped(
        lambda t: t.view_as(t) if record and t.requires_grad else t.detach().requires_grad_(), x
    )


@torch.compiler.disable  # It cannot trace `vars`.
def _detached(structure):
    return _mapped(lambda t: _detach(t) if torch.is_tensor(t) else t, structure)


def _mapped(fn, structure):
    """`keras.tree.map_structure`, at a tenth of its time for lists, tuples and dictionaries."""
    kind = type(structure)
    if kind is list or kind is tuple:
        return kind([_mapped(fn, part) for part in structure])
    if kind is dict:
        return {key: _mapped(fn, part) for key, part in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return kind(*[_mapped(fn, part) for part in structure])
    if torch.is_tensor(structure) or isinstance(structure, (int, float)):
        return fn(structure)
    return keras.tree.map_structure(fn, structure)


def _detach(tensor):
    detached = tensor.detach()
    vars(detached).update(vars(tensor))  # Where Keras keeps the mask of an output.
    return detached


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, *inputs):
        output = forward(*inputs)
        ctx.rule = backward
        ctx.save_for_backward(*inputs, output)
        return output

    @staticmethod
    def backward(ctx, cotangent):
        *inputs, output = ctx.saved_tensors
        return None, None, *ctx.rule(inputs, output, cotangent)


def with_gradient(forward, backward):
    """`forward(*inputs)`, whose gradients are `backward(inputs, output, cotangent)`, differentiable too."""
    return lambda *inputs: _WithGradient.apply(forward, backward, *inputs)


# Entries of a piece of an array for each thread: what is made of one stays in the caches of usual processors.
_PIECE = 2**19


class _WithSlopes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plain, slopes, x, y):
        values, ctx.found = _by_pieces(slopes, x, y)
        ctx.plain, ctx.slopes = plain, slopes
        ctx.save_for_backward(x, y)
        return values

    @staticmethod
    def backward(ctx, cotangent):
        x, y = ctx.saved_tensors
        if torch.is_grad_enabled():  # The gradient is to be differentiated itself.
            values = ctx.plain(x, y)
            (gradient,) = torch.autograd.grad(values, x, cotangent, create_graph=True)
            return None, None, gradient, None
        found, ctx.found = ctx.found, None
        if found is None:  # Given away before.
            _, found = _by_pieces(ctx.slopes, x, y)
        if peek(cotangent) is None:  # Several at a time, by `is_grads_batched`.
            return None, None, found * cotangent[..., None], None
        return None, None, found.mul_(cotangent[..., None]), None


def _by_pieces(slopes, x, y):
    """Values and slopes, a few rows at a time where there are many: fresh memory costs more than arithmetic."""
    room, classes = torch.empty_like(x, memory_format=torch.contiguous_format), x.shape[-1]
    size = max(1, _PIECE * torch.get_num_threads() // classes)
    if x.numel() < 2 * size * classes:
        return slopes(x, y, room), room
    rows, places = x.reshape(-1, classes), room.view(-1, classes)
    y = y.reshape(-1, *y.shape[x.ndim - 1 :])
    pieces = zip(rows.split(size), y.split(size), places.split(size))
    return torch.cat([slopes(*piece) for piece in pieces]).reshape(x.shape[:-1]), room


def with_slopes(plain, slopes, x, y):
    """`plain(x, y)`, a value for each row; by `slopes(x, y, room)` where that is cheaper.

    `x` is `(…, classes)` and `y (…)` or like `x`. `slopes` gives the values and writes their gradients into
    `room`, an array like `x`. It runs without a record, on some of the rows at a time.
    """
    recorded = x.requires_grad and torch.is_grad_enabled() and not y.requires_grad
    if not (recorded and x.numel()) or peek(x) is None:
        return plain(x, y)
    return _WithSlopes.apply(plain, slopes, x, y)


class _InPlace:
    """Operations without a record, for the slopes of `with_slopes`, on arrays that nothing else needs."""

    @staticmethod
    def softmax(room, x):
        """The softmax over the last axis, written into `room`."""
        return torch.softmax(x, dim=-1, out=room)

    @staticmethod
    def add_last(x, indices, values):
        """`x` with `values (…)` added at `indices (…)` of the last axis."""
        indices = indices.long()[..., None]
        if isinstance(values, float):
            return x.scatter_(-1, indices, values, reduce="add")
        values = torch.as_tensor(values, dtype=x.dtype, device=x.device)
        return x.scatter_add_(-1, indices, values[..., None])

    @staticmethod
    def clip(x, low=None, high=None):
        """`x` with its entries brought up to `low` and down to `high`."""
        return x.clamp_(low, high)

    @staticmethod
    def squared_norm(x):
        """`Σ_k x_k²` over the last axis, without an array of squares."""
        return torch.linalg.vector_norm(x, dim=-1).square()


in_place = _InPlace


def compiled(fn):
    """`fn` itself, without a record of what it did."""
    return torch.no_grad()(fn)


def hessian_products(fn, x):
    """A function `vector -> product` with the Hessian of a scalar `fn(x)`, that keeps what both passes share.

    A list `x` of tensors. Each product costs one backward pass through the gradient, whose graph stays in memory.
    """
    options = {"allow_unused": True, "materialize_grads": True}
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = [t.detach().requires_grad_() for t in x]
        value = fn(x)
        gradients: Sequence[Any] = ()
        if value.requires_grad:
            gradients = torch.autograd.grad(value, x, create_graph=True, **options)
    moving = [(i, g) for i, g in enumerate(gradients) if g.requires_grad]

    def product(vector):
        if not moving:
            return [torch.zeros_like(t) for t in x]
        along = [torch.as_tensor(vector[i], dtype=g.dtype, device=g.device) for i, g in moving]
        with sdpa_kernel(SDPBackend.MATH):
            return list(
                torch.autograd.grad([g for _, g in moving], x, along, retain_graph=True, **options)
            )

    return product


def no_recording():
    """Context in which derivatives are not themselves recorded for an outer derivative."""
    return torch.no_grad()


def read(variable):
    """The current value of a variable, unconnected to any recorded computation."""
    return variable.value.detach()


def eager():
    """Context in which variables are made at once, also while a step is traced (nothing to do)."""
    return contextlib.nullcontext()


def readable(x):
    """Whether the values of a tensor are there to be looked at."""
    return not torch.compiler.is_compiling() and torch.as_tensor(x).device.type != "meta"


class _RandomState:
    """A global generator of torch, which dropout without a seed draws from, read and assigned like a variable."""

    def __init__(self, module):
        self._module = module

    @property
    def value(self):
        return self._module.get_rng_state()

    def assign(self, value):
        self._module.set_rng_state(value)


def random_states():
    """State of random numbers outside of the model's variables: objects with `value` and `assign`."""
    if torch.compiler.is_compiling():
        return []
    modules = [torch]
    if torch.accelerator.is_available():
        modules.append(torch.get_device_module())
    return [_RandomState(module) for module in modules]


def train_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables: here they are the real thing."""
    (data,) = arguments
    with torch.no_grad():
        return step(data)


test_step = train_step


def predict_step(model, inner, arguments):
    """The `predict_step` of a model inside `model`."""
    return inner.predict_step(*arguments)


def is_compiling():
    """Whether `torch.compile` is at work, which runs Python code of its own kind only."""
    return torch.compiler.is_compiling()


def apply_gradients(optimizer, gradients, variables):
    optimizer.apply(gradients, variables)


def dense(gradient):
    """The gradient as a tensor (it is one)."""
    return gradient


def read_rows(variable, indices):
    """Rows of a variable, without reading all of it."""
    return variable.value.detach()[indices]


def write_rows(variable, indices, rows):
    """Overwrites rows of a variable in place; rows written twice must be equal."""
    value = variable.value.detach()
    value[indices] = rows.to(value.dtype)


def in_branch(fn):
    """`fn`, to be traced as the body of a branch or loop (nothing to do)."""
    return fn


def run_if(predicate, function, variables):
    """Runs `function()`, which assigns `variables`, if a scalar tensor is true."""
    if predicate:
        function()


run_or_undo = run_if


def num_replicas():
    """Replicas whose gradients the optimizer adds up: none, each process averages for itself."""
    return 1


def _averaging():
    # Keras versions with `keras.distribution` on torch synchronize by themselves.
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
        and keras.distribution.distribution() is None
    )


def reduce_mean_over_replicas(tensors):
    if not _averaging():
        return tensors
    size = torch.distributed.get_world_size()
    flat = torch.cat([t.detach().reshape(-1).to(torch.float32) for t in tensors])
    torch.distributed.all_reduce(flat)
    parts = (flat / size).split([t.numel() for t in tensors])
    return [part.reshape(t.shape).to(t.dtype) for part, t in zip(parts, tensors)]


def gather_over_replicas(tensors):
    """The rows of all processes one after the other, the same on each."""
    if not _averaging():
        return tensors
    # As objects, since processes may have different numbers of rows.
    gathered = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, [t.detach().cpu() for t in tensors])
    return [torch.cat(parts).to(t.device) for t, parts in zip(tensors, zip(*gathered))]


class _GatherRows(torch.autograd.Function):
    """Rows of all processes one after the other; the gradient of each row is the sum over the processes."""

    @staticmethod
    def forward(ctx, x, sizes):
        ctx.own, most = sizes[torch.distributed.get_rank()], max(sizes)
        ctx.begin = sum(sizes[: torch.distributed.get_rank()])
        padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])]).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(gradient)
        return gradient[ctx.begin : ctx.begin + ctx.own], None


def gather_batch(tensors):
    """The rows of all processes with gradients, and a function that takes a process' own rows out again.

    Where no gradients are recorded, rows are the own ones alone: a process may evaluate by itself.
    """
    if not (_averaging() and torch.is_grad_enabled()):
        return tensors, lambda rows: rows
    size = torch.tensor([len(tensors[0])], device=tensors[0].device)
    sizes = [torch.empty_like(size) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(sizes, size)
    sizes = [int(n) for n in sizes]
    begin = sum(sizes[: torch.distributed.get_rank()])
    gathered = [_GatherRows.apply(t, sizes) for t in tensors]
    return gathered, lambda rows: rows[begin : begin + len(tensors[0])]


def synchronize(variables):
    """Makes the variables equal on all processes: those of rank 0."""
    if _averaging():
        for variable in variables:
            value = variable.value.detach().clone()
            torch.distributed.broadcast(value, 0)
            variable.assign(value)


def average(variables):
    """Averages floating variables over processes, but those declared equal on all; whether it did."""
    if not _averaging():
        return False
    variables = [v for v in variables if v.aggregation != "only_first_replica"]
    floating = [v for v in variables if keras.backend.is_float_dtype(v.dtype)]
    for variable, value in zip(floating, reduce_mean_over_replicas([v.value for v in floating])):
        variable.assign(value)
    return True


def keep_weights_on_error(model):
    """Gives a model its weights back when an exception leaves a Keras loop (they never leave it here)."""
    return contextlib.nullcontext()


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
    values = torch.as_tensor(values, dtype=x.dtype, device=x.device)
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


def roll(x, shift, axis):
    """`x` with its entries moved along an axis, the last ones to the front."""
    return torch.roll(x, shift, axis)


def soft_threshold(x, threshold):
    """`sign(x) max(|x| - t, 0)`, in two operations."""
    return x - torch.clamp(x, -threshold, threshold)


def shorten(x, y, radius):
    """`(x, y)` as vectors of two entries, those longer than a radius shortened to it."""
    length = torch.sqrt(torch.addcmul(x * x, y, y) + 1e-30)
    longest = length.clamp_min(radius) if isinstance(radius, float) else length.maximum(radius)
    scale = radius / longest
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
