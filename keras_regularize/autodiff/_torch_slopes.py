"""Losses with gradients written besides their formulas, for PyTorch outside of graphs (`losses/_slopes.py`)."""

from functools import partial

import torch

from keras_regularize.autodiff._torch_operations import peek

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
    `room`, an array like `x`. It runs without a record, on some of the rows at a time. If it is `None`, `plain`
    is differentiated, but piece by piece too.
    """
    recorded = x.requires_grad and torch.is_grad_enabled() and not y.requires_grad
    if not (recorded and x.numel()) or peek(x) is None:
        return plain(x, y)
    if slopes is None:
        if x.numel() < 2 * _PIECE * torch.get_num_threads():
            return plain(x, y)
        slopes = partial(_differentiated, plain)
    return _WithSlopes.apply(plain, slopes, x, y)


def _differentiated(plain, x, y, room):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        values = plain(x, y)
    (gradient,) = torch.autograd.grad(values, x, torch.ones_like(values))
    room.copy_(gradient)
    return values.detach()


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
