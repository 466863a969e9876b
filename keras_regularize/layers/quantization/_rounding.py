"""Rounding to levels with the gradients of learned step sizes, and where the steps start."""

import contextlib
import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.numerics import safe_abs, upcast

_calibrating: list[Any] = []


def round_to_levels(x, scale, offset, low, high, with_ends=True):
    r"""`scale * round(clip((x - offset) / scale, low, high)) + offset`, with the rounding passed straight through.

    Written out so that every backend agrees at the ends, where `clip` has one gradient here and another
    there: `with_ends` says whether they belong to the inside.
    """
    position = ops.stop_gradient((x - offset) / scale)
    inside = (position >= low) & (position <= high)
    if not with_ends:
        inside = (position > low) & (position < high)
    position = ops.clip(position, low, high)
    value = ops.round(position) * scale + offset
    rest = ops.where(inside, x - offset - position * scale, 0.0)
    return straight_through(value, value + rest)


def learned_step(x, scale, offset, low, high, gradient_scale):
    """`round_to_levels` with `|scale| + 1e-6` and scaled gradients of scale and offset, in the dtype of `x`."""
    wide = upcast(x)
    low, high, gradient_scale = (_cast(entry, wide.dtype) for entry in (low, high, gradient_scale))
    scale, offset = (
        straight_through(entry, gradient_scale * entry)
        for entry in (ops.cast(scale, wide.dtype), ops.cast(offset, wide.dtype))
    )
    result = round_to_levels(wide, safe_abs(scale) + 1e-6, offset, low, high)
    return ops.cast(result, x.dtype)


def _cast(x, dtype):
    return x if isinstance(x, (int, float)) else ops.cast(x, dtype)


def step_dtype(layer):
    """Of steps, offsets and ends: float32 also where a layer's weights are in half precision."""
    return "float64" if layer.variable_dtype == "float64" else "float32"


def require_one_input(wrapper, layer):
    """Raises unless a layer is called on one floating tensor, which a wrapper quantizes."""
    inner = layer
    while isinstance(inner, keras.layers.Wrapper):
        inner = inner.layer
    named = [
        p.name
        for p in inspect.signature(layer.call).parameters.values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    if len(named) > 1:
        problem = f"is called on several: {named}. Put `LearnedClipQuantizer` layers before it"
    elif isinstance(inner, keras.layers.Embedding):
        problem = "takes ids, which cannot be quantized. Use `QuantizedWeights` around it"
    else:
        return
    raise ValueError(
        f"`{type(wrapper).__name__}` needs a layer that takes one floating tensor. Received: layer={layer!r}, "
        f"which {problem}"
    )


def require_one_tensor(wrapper, inputs):
    """Raises unless what a layer is called on is one tensor."""
    if isinstance(inputs, (list, tuple, dict)):
        raise ValueError(
            f"`{type(wrapper).__name__}` quantizes one floating tensor. Received inputs of "
            f"{len(inputs)} parts; put `LearnedClipQuantizer` layers before the layer instead"
        )


def first_level(bits, signed=True):
    return -(2 ** (bits - 1)) if signed else 0


def fitted_range(x, bits, symmetric, axis=None, signed=None):
    """Scale, offset and lowest level for an array, by a search over ranges that shrink to a fifth.

    The error is the mean of `|x - q|^2.4`. `axis` names the axes that keep ranges of their own. Symmetric
    ranges of data without negative values get unsigned levels, unless `signed` says otherwise.
    """
    x = np.asarray(x, "float64")
    if not np.isfinite(x).all():
        raise ValueError(
            "A quantizer finds its range in finite numbers. Received an array with "
            f"{np.count_nonzero(~np.isfinite(x))} NaN or infinite entries of {x.size}"
        )
    kept = () if axis is None else tuple(a % x.ndim for a in axis)
    axes = tuple(a for a in range(x.ndim) if a not in kept)
    if signed is None:
        signed = not symmetric or x.size == 0 or x.min() < -1e-9
    low = first_level(bits, signed)
    high = low + 2**bits - 1
    smallest = x.min(axis=axes, keepdims=True, initial=0.0)
    largest = x.max(axis=axes, keepdims=True, initial=0.0)
    best: Any = None
    for step in range(80):
        shrink = 1.0 - 0.01 * step
        if symmetric:
            scale, offset = shrink * np.maximum(-smallest, largest) / high, 0.0 * largest
        else:
            scale = shrink * (largest - smallest) / (high - low)
            offset = shrink * smallest - scale * low
        scale = np.where(scale > 0, scale, 1.0 / max(high, 1))
        level = np.clip(np.round((x - offset) / scale), low, high)
        error = (np.abs(x - level * scale - offset) ** 2.4).sum(axis=axes, keepdims=True)
        if best is None:
            best = error, scale, offset
        better = error < best[0]
        best = [np.where(better, new, old) for new, old in zip((error, scale, offset), best)]
    return best[1], best[2], low


@contextlib.contextmanager
def calibration():
    """While it lasts, quantizers set their ranges to the tensors they are called on."""
    _calibrating.append(True)
    try:
        yield
    finally:
        _calibrating.pop()


def is_calibrating():
    return bool(_calibrating)
