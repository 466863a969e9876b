"""PyTorch: differentiation, and averaging over the processes of `torch.distributed`."""

import contextlib

import keras
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = False


def differentiate(fn, x):
    """`(value, aux), gradients` of `fn(x) -> (scalar, aux)`; `x` is a nested structure of tensors."""
    with _recording() as record:
        x = _fresh(x, record)
        leaves = keras.tree.flatten(x)
        value, aux = fn(x)
        if value.requires_grad:
            gradients = torch.autograd.grad(
                value, leaves, create_graph=record, allow_unused=True, materialize_grads=True
            )
        else:
            gradients = [torch.zeros_like(leaf) for leaf in leaves]
    if not record:
        value, aux = _detached((value, aux))
    return (value, aux), keras.tree.pack_sequence_as(x, list(gradients))


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
        pulled = ()
        if moving:
            pulled = torch.autograd.grad(moving, x, vectors, create_graph=True, **options)
        pairs = [(p, t) for p, t in zip(pulled, tangents) if p.requires_grad]
        pushed = ()
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
    return keras.tree.map_structure(
        lambda t: t.view_as(t) if record and t.requires_grad else t.detach().requires_grad_(), x
    )


@torch.compiler.disable  # It cannot trace `vars`.
def _detached(structure):
    return keras.tree.map_structure(lambda t: _detach(t) if torch.is_tensor(t) else t, structure)


def _detach(tensor):
    detached = tensor.detach()
    vars(detached).update(vars(tensor))  # Where Keras keeps the mask of an output.
    return detached


def no_recording():
    """Context in which derivatives are not themselves recorded for an outer derivative."""
    return torch.no_grad()


def read(variable):
    """The current value of a variable, unconnected to any recorded computation."""
    return variable.value.detach()


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


def apply_gradients(optimizer, gradients, variables):
    optimizer.apply(gradients, variables)


def read_rows(variable, indices):
    """Rows of a variable, without reading all of it."""
    return variable.value.detach()[indices]


def write_rows(variable, indices, rows):
    """Overwrites rows of a variable in place; rows written twice must be equal."""
    variable.value.detach()[indices] = rows


def in_branch(fn):
    """`fn`, to be traced as the body of a branch or loop (nothing to do)."""
    return fn


def run_if(predicate, function, variables):
    """Runs `function()`, which assigns `variables`, if a scalar tensor is true."""
    if predicate:
        function()


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
    if torch.compiler.is_compiling() or type(x) is not torch.Tensor or x.device.type != "cpu":
        return None
    x = x.detach()
    try:
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    except RuntimeError:  # Inside of `torch.vmap`.
        return None


def exact_segment_sums(columns, segments, count):
    """Sums `(count, len(columns))` by segment in double precision, in few operations; `None` without that.

    Segments beyond 0 and `count - 1` count there.
    """
    if segments.device.type == "mps":
        return None
    values = torch.stack(columns, dim=-1).reshape(-1, len(columns)).double()
    sums = torch.zeros((count, len(columns)), dtype=torch.float64, device=values.device)
    return sums.index_add_(0, segments.reshape(-1).clamp(0, count - 1), values).float()


def largest(x):
    """The largest entry of the last axis and its position, in one pass."""
    return torch.max(x, dim=-1)
