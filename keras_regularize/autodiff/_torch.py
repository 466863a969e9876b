"""PyTorch: differentiation, and averaging over the processes of `torch.distributed`."""

import contextlib

import keras
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def differentiate(fn, x):
    """`(value, aux), gradients` of `fn(x) -> (scalar, aux)`; `x` is a nested structure of tensors."""
    record = torch.is_grad_enabled()
    # Only the math kernel of the fused attention has a second derivative.
    kernels = sdpa_kernel(SDPBackend.MATH) if record else contextlib.nullcontext()
    with torch.enable_grad(), kernels:
        # A fresh node per leaf: connected to `x` if an outer derivative records, a constant elsewhere in `fn`.
        x = keras.tree.map_structure(
            lambda t: t.view_as(t) if record and t.requires_grad else t.detach().requires_grad_(),
            x,
        )
        leaves = keras.tree.flatten(x)
        value, aux = fn(x)
        if value.requires_grad:
            gradients = torch.autograd.grad(
                value, leaves, create_graph=record, allow_unused=True, materialize_grads=True
            )
        else:
            gradients = [torch.zeros_like(leaf) for leaf in leaves]
    if not record:
        value = value.detach()
    return (value, aux), keras.tree.pack_sequence_as(x, list(gradients))


def no_recording():
    """Context in which derivatives are not themselves recorded for an outer derivative."""
    return torch.no_grad()


def read(variable):
    """The current value of a variable, unconnected to any recorded computation."""
    return variable.value.detach()


def train_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables: here they are the real thing."""
    (data,) = arguments
    with torch.no_grad():
        return step(data)


def apply_gradients(optimizer, gradients, variables):
    optimizer.apply(gradients, variables)


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


def synchronize(variables):
    """Makes the variables equal on all processes: those of rank 0."""
    if _averaging():
        for variable in variables:
            value = variable.value.detach().clone()
            torch.distributed.broadcast(value, 0)
            variable.assign(value)


def average(variables):
    """Averages floating variables over processes; whether it did."""
    if not _averaging():
        return False
    floating = [v for v in variables if keras.backend.is_float_dtype(v.dtype)]
    for variable, value in zip(floating, reduce_mean_over_replicas([v.value for v in floating])):
        variable.assign(value)
    return True


def keep_weights_on_error(model):
    """Gives a model its weights back when an exception leaves a Keras loop (they never leave it here)."""
    return contextlib.nullcontext()
