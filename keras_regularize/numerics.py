"""Stable pieces that the methods are built from.

Every function here has a finite value and a finite gradient wherever its docstring does not say otherwise,
and gives the same gradient on every backend at the points where `keras.ops` does not (zero vectors, zero
probabilities, kinks). NaN gives NaN, so that loss scaling and callbacks see it. Half-precision inputs are
reduced in float32.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

#: Added to lengths, variances and shares that divide, or their least value, where no paper gives one.
GUARD = 1e-12
#: The same for what is tiny by itself: squares, products of probabilities, gradients of confident models.
TINY = 1e-30


def upcast(x: Any) -> Any:
    """`x` as a tensor of at least float32: reductions and exponentials of half-precision values overflow."""
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype in ("float32", "float64"):
        return x
    if "complex" in dtype:  # A cast would drop the imaginary part.
        raise ValueError(f"Expected real numbers. Received: dtype {dtype}")
    return ops.cast(x, "float32")


def as_float(x: Any) -> Any:
    """`x` as a floating tensor: integers become the default float type."""
    x = ops.convert_to_tensor(x)
    floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
    return x if floating else ops.cast(x, keras.config.floatx())


def safe_sqrt(x: Any) -> Any:
    """Square root that is 0 with gradient 0 at `x <= 0`, where the gradient of `ops.sqrt` is infinite or NaN."""
    guarded = x <= 0  # Not `x > 0`: NaN has to stay NaN.
    return ops.where(guarded, 0.0, ops.sqrt(ops.where(guarded, 1.0, x)))


def safe_log(x: Any) -> Any:
    """Logarithm that is the log of the smallest normal float, with gradient 0, at `x` below it."""
    tiny = 1.2e-38 if keras.backend.standardize_dtype(x.dtype) != "float16" else 6.2e-5
    return ops.log(ops.where(x <= tiny, tiny, x))


def xlogy(x: Any, y: Any) -> Any:
    """`x log y`, and 0 with gradient 0 where `x` is 0, also at `y = 0`."""
    nonzero = x != 0
    return ops.where(nonzero, x * safe_log(ops.where(nonzero, y, 1.0)), 0.0)


def safe_expm1(x: Any) -> Any:
    """`exp(x) - 1`, continued by its tangent above `x = 60`: finite and still increasing at `x = 1e4`.

    Computed in at least float32.
    """
    x = upcast(x)
    return ops.expm1(minimum(x, 60.0)) + math.exp(60.0) * ops.relu(x - 60.0)


def inverse_softplus(value: float) -> float:
    """The number whose softplus is a positive `value`: where a weight starts that is read through it."""
    return value + math.log(-math.expm1(-value))


def log_softplus(x: Any) -> Any:
    """Logarithm of the softplus, in at least float32, also where that is nothing."""
    x = upcast(x)
    # Of what lies far below 0 the softplus is the exponential.
    return ops.where(x < -15.0, x, ops.log(ops.softplus(ops.maximum(x, -15.0))))


def safe_abs(x: Any) -> Any:
    """Absolute value with gradient 0 at 0 (`ops.abs` has gradient 1 there on JAX)."""
    return ops.stop_gradient(ops.sign(x)) * x


def safe_arccos(x: Any, margin: float = 1e-7) -> Any:
    """Angle in radians whose gradient stays finite at `x = ±1`: `x` is clipped `margin` inside."""
    x = ops.convert_to_tensor(x)
    return ops.cast(ops.arccos(ops.clip(upcast(x), -1.0 + margin, 1.0 - margin)), x.dtype)


def safe_norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Euclidean norm over `axis` with gradient 0 at a zero vector.

    Sums in float32 and returns the dtype of `x`.
    """
    x = ops.convert_to_tensor(x)
    wide = upcast(x)
    return ops.cast(safe_sqrt(ops.sum(wide * wide, axis=axis, keepdims=keepdims)), x.dtype)


def unit_vectors(x: Any, axis: int = -1) -> Any:
    """`x` divided by its Euclidean norm over `axis`, in the dtype of `x`.

    Vectors may be of any finite size. One whose entries are below 1e-12 together stays as it is, with gradient 0:
    it has no direction.
    """
    x = ops.convert_to_tensor(x)
    wide = upcast(x)
    size = ops.stop_gradient(ops.sum(ops.abs(wide), axis=axis, keepdims=True))
    none = size <= GUARD
    wide = wide / ops.where(size > 1e15, size, 1.0)  # Squares of 1e20 overflow.
    squares = ops.sum(wide * wide, axis=axis, keepdims=True)
    unit = wide / ops.sqrt(ops.where(none, 1.0, squares))
    return ops.cast(ops.where(none, ops.stop_gradient(wide), unit), x.dtype)


def global_norm(tensors: Sequence[Any]) -> Any:
    """Joint Euclidean norm of a list of tensors, a scalar of at least float32.

    Meant for directions: see `safe_norm`.
    """
    wide = [upcast(tensor) for tensor in tensors]
    return safe_sqrt(joint_sum([ops.sum(x * x) for x in wide]))


def joint_sum(scalars: Sequence[Any]) -> Any:
    """Sum of a list of floating scalars, or tensors, in the widest of their dtypes, at least float32."""
    scalars = [upcast(x) for x in scalars] or [ops.zeros((), "float32")]
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in scalars}
    if len(dtypes) > 1:
        scalars = [ops.cast(x, "float64") for x in scalars]
    return sum(scalars[1:], start=scalars[0])


def masked_mean(values: Any, mask: Any, axis: Any = None) -> Any:
    """Mean of `values` where `mask` (bool, or weights) is set; 0 where nothing is."""
    mask = ops.cast(mask, values.dtype)
    count = ops.sum(mask, axis=axis)
    total = ops.sum(ops.where(mask != 0, values, 0.0) * mask, axis=axis)
    return total / ops.where(count > 0, count, 1.0)


def squared_distances(x: Any, y: Any) -> Any:
    """Squared Euclidean distances between the rows of `x (n, d)` and `y (m, d)`: `(n, m)`, never negative.

    One matrix product, no `(n, m, d)` array. Cancellation leaves an absolute error of about `1e-7` of the largest
    squared distance from the mean of `y` in float32.
    """
    x, y = upcast(x), upcast(y)
    # Far from the origin nothing would be left of the differences.
    center = ops.stop_gradient(mean(ops.where(ops.isfinite(y), y, 0.0), axis=0, keepdims=True))
    x, y = x - center, y - center
    products = matmul(x, ops.transpose(y))
    squares = ops.sum(x * x, axis=-1)[:, None] + ops.sum(y * y, axis=-1)[None, :]
    return ops.relu(squares - 2.0 * products)


def log_probabilities(outputs: Any, from_logits: bool) -> Any:
    """Log-probabilities `(…, classes)`, in at least float32, of a classifier's outputs.

    A last axis of size one is the score of class 1 and becomes two columns. Probabilities are normalised
    and clipped to `[1e-7, 1 - 1e-7]`, as Keras' own losses do: outside, also at exactly 1, the gradient is 0.
    """
    outputs = upcast(outputs)
    if outputs.shape[-1] == 1:
        if from_logits:
            return ops.concatenate([ops.log_sigmoid(-outputs), ops.log_sigmoid(outputs)], axis=-1)
        return _clipped_log(ops.concatenate([1.0 - outputs, outputs], axis=-1))
    if from_logits:
        return ops.log_softmax(outputs, axis=-1)
    total = ops.sum(outputs, axis=-1, keepdims=True)
    return _clipped_log(outputs / ops.where(total > 0, total, 1.0))


def _clipped_log(p):
    return ops.log(ops.clip(p, 1e-7, 1.0 - 1e-7))


def kl_divergence(log_p: Any, log_q: Any) -> Any:
    """`KL(p‖q)` over the last axis, from finite log-probabilities such as `log_probabilities` gives.

    The gradient flows to both; stop that of the one that is a target.
    """
    log_p = upcast(log_p)
    log_q = ops.cast(upcast(log_q), log_p.dtype)  # Of two models each may have a dtype of its own.
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


# On PyTorch (and JAX with 64 bits) these functions of `keras.ops` return, or compute in, float32 for float64.


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`ops.mean` of floating values that stays in float64."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    if isinstance(axis, int) and dtype in ("float32", "float64") and x.shape[axis]:
        # In half the time of the next on PyTorch.
        return ops.sum(x, axis=axis, keepdims=keepdims) / x.shape[axis]
    if dtype != "float64":
        return ops.mean(x, axis=axis, keepdims=keepdims)
    count = ops.sum(ops.ones_like(x), axis=axis, keepdims=keepdims)
    return ops.sum(x, axis=axis, keepdims=keepdims) / count


def standardized(x: Any) -> Any:
    """`ops.layer_normalization` over the last axis that stays in float64: 0 where all entries are equal."""
    if keras.backend.standardize_dtype(x.dtype) != "float64":
        return ops.layer_normalization(x, epsilon=GUARD**2)
    centred = x - mean(x, axis=-1, keepdims=True)
    return centred / ops.sqrt(mean(centred * centred, axis=-1, keepdims=True) + GUARD**2)


def matmul(x: Any, y: Any) -> Any:
    """`ops.matmul` of tensors of one dtype that stays in float64."""
    return x @ y


def maximum(x: Any, bound: Any) -> Any:
    """`ops.maximum` that stays in float64, NaN where `x` is; the gradient at equality is that of `x`."""
    return ops.where(x < bound, bound, x)


def minimum(x: Any, bound: Any) -> Any:
    """`ops.minimum` that stays in float64, NaN where `x` is; the gradient at equality is that of `x`."""
    return ops.where(x > bound, bound, x)


def cumsum(x: Any) -> Any:
    """`ops.cumsum` over the last axis that stays in float64 if the size of that axis is known."""
    if keras.backend.standardize_dtype(x.dtype) != "float64" or x.shape[-1] is None:
        return ops.cumsum(x, axis=-1)
    shift, before = 1, [(0, 0)] * (len(x.shape) - 1)
    while shift < x.shape[-1]:  # Sums over twice as many entries each time.
        x = x + ops.pad(x[..., :-shift], [*before, (shift, 0)])
        shift *= 2
    return x
