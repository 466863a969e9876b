"""PyTorch: differentiation, and averaging over the processes of `torch.distributed`."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from keras_regularize.autodiff._torch_operations import (  # noqa: F401
    add_last,
    add_product,
    add_times,
    carries_mask,
    channels_first,
    class_maps,
    cumulative_logsumexp,
    exact_segment_sums,
    extrapolate,
    first_maximum,
    join_last,
    largest,
    log_add_exp,
    log_softmax,
    looked_at,
    norms,
    one_hot_ids,
    peek,
    power,
    put_last,
    recur,
    reshape,
    roll,
    scan,
    scan_with_gradient,
    shorten,
    soft_threshold,
    stack,
    take_last,
    times,
    total,
    without_records,
)
from keras_regularize.autodiff._torch_slopes import in_place, with_slopes  # noqa: F401

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = False
# Whether operations run one by one: few large ones are fast then, and no compiler joins small ones.
RUNS_ONE_BY_ONE = True
# Whether products with a Hessian take less time by forward mode over reverse mode than by reverse mode twice.
FORWARD_OVER_REVERSE = False
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
