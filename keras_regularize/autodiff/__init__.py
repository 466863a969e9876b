"""Derivatives and functional models on TensorFlow, JAX and PyTorch.

The one place of the package that names a backend: `_jax.py`, `_tensorflow.py` and `_torch.py` hold the same
few functions, and only the active one is imported, as `autodiff.backend`. Where a method needs more than
derivatives and `Forward`, this is what it may use of it:

| of `autodiff.backend` | what it is |
|---|---|
| `read(variable)` | the current value of a variable, unconnected to any recorded computation |
| `read_rows(variable, indices)` | rows of a variable, without reading all of it |
| `write_rows(variable, indices, rows)` | overwrites rows in place; rows written twice must be equal |
| `run_if(predicate, function, variables)` | runs `function()`, which assigns `variables`, if a tensor is true |
| `run_or_undo(predicate, function, variables)` | `run_if` for a function in which replicas meet |
| `random_states()` | generators that are no variables of a model: objects with `value` and `assign` |
| `peek(x)` | a tensor's values as a NumPy array where they can be had without waiting, else `None` |
| `looked_at(tensors)` | tensors, as arrays if all can be had so and NumPy is faster with small ones |
| `stack(parts)` | one tensor of several, or of arrays that `looked_at` has given |
| `readable(x)` | whether the values of a tensor are there to be looked at |
| `is_compiling()` | whether `torch.compile` is at work, which runs Python code of its own kind only |
| `eager()` | context in which variables are made at once, also while a step is traced |
| `no_recording()` | context in which derivatives are not themselves recorded for an outer derivative |
| `in_branch(fn)` | `fn`, to be traced as the body of a branch or loop |
| `compiled(fn)` | `fn` of tensors as one program, for loops outside of Keras' own |
| `hessian_products(fn, x)` | products with the Hessian of `fn(x)` that keep its graph, `None` where compiled |
| `num_replicas()` | replicas whose gradients the optimizer adds up |
| `reduce_mean_over_replicas(tensors)` | means over replicas or processes |
| `gather_over_replicas(tensors)` | the rows of all replicas or processes, the same on each |
| `gather_batch(tensors)` | the same with gradients, and a function that takes the own rows out again |
| `synchronize(variables)` | makes variables equal on all processes |
| `average(variables)` | averages floating variables over processes; whether it did |
| `train_step(model, step, arguments)` | Keras' `train_step` by a `step(data)` that assigns variables |
| `test_step(model, step, arguments)` | the same for `test_step` |
| `predict_step(model, inner, arguments)` | the `predict_step` of a model inside `model` |
| `keep_weights_on_error(model)` | context that gives a model back what an exception in Keras takes |
| `apply_gradients(optimizer, gradients, variables)` | the optimizer's step by global gradients |
| `dense(gradient)` | a gradient as one tensor, also that of an embedding |
| `take_last(values, indices)` | `values[…, indices]` along the last axis |
| `add_last(x, indices, values)` | `x` with values added at `indices` of the last axis |
| `put_last(x, indices, values)` | `x` with the values put at `indices` of the last axis |
| `norms(x, axis)` | Euclidean norms if they can be looked at and are of usual size, else `None` |
| `power(x, exponent)` | to the power of a number |
| `total(x)` | the sum of all entries |
| `add_product(x, y, z)` | `x + y · z`, in one operation where those run one by one |
| `times(x, matrix)` | `x @ matrix` for rows or one vector, in the fastest operation |
| `add_times(y, x, matrix, sign)` | `y ± x @ matrix` for rows or one vector, in the fewest operations |
| `without_records(fn, x)` | `fn(x)`, faster where nothing is differentiated; `fn` takes no gradients itself |
| `extrapolate(x, y, share)` | `y + share · (y - x)`, in the fewest operations |
| `reshape(x, shape)` | that of Keras, without its checks where they take longer |
| `roll(x, shift, start)` | `x` with the entries of its axes from `start` on in a row, moved on |
| `soft_threshold(x, threshold)` | `sign(x) max(|x| - t, 0)`, in the fewest operations |
| `shorten(x, y, radius)` | vectors of two entries, no longer than a radius, in the fewest operations |
| `channels_first(x)` | `x (batch, …, channels)` as `(batch, channels, pixels)`, in the fewest operations |
| `class_maps(ids, classes, dtype)` | one-hot `(batch, classes, pixels)` of ids `(batch, …)` |
| `log_add_exp(a, b)` | `log(exp(a) + exp(b))`, in the fewest operations |
| `log_softmax(x)` | over the last axis, in the fewest operations |
| `first_maximum(x)` | position of the largest entry of the last axis, of several the first |
| `one_hot_ids(rows)` | ids of one-hot rows if they can be looked at, else `None` |
| `largest(x)` | the largest entry of each row, without gradient, and its position |
| `cumulative_logsumexp(x)` | `log Σ_{j ≤ i} exp(x_j)` over the last axis |
| `exact_segment_sums(columns, segments, count)` | sums by segment in double precision, or `None` |
| `carries_mask(x)` | whether a tensor may carry a mask of Keras |
| `join_last(left, right)` | two tensors side by side in the last axis, in the fewest operations |
| `recur(step, start, inputs)` | rows that are computed from the two rows before them |
| `scan(step, carry, inputs, reverse)` | stacked outputs, shaped as `carry[0]`, of `step(carry, rows)` |
| `scan_with_gradient(step, carry, inputs)` | the same for few rows, with a gradient under XLA everywhere |
| `with_gradient(forward, backward)` | a function with a gradient of its own; JAX has no forward mode for it |
| `with_slopes(plain, slopes, x, y)` | `plain(x, y)`, or that with its gradient where nothing is compiled |
| `in_place` | what slopes are written with; `None` where steps are compiled |
| `COMPILES_DOUBLE_BACKWARD` | whether a compiled step may differentiate through a gradient |
| `RUNS_ONE_BY_ONE` | whether operations run one by one, so that few large ones are fast |
| `FORWARD_OVER_REVERSE` | whether products with a Hessian are faster so than by reverse mode twice |
| `DIVIDES_IN_FLOAT32` | whether Keras' means of losses divide float64 in float32 |

Its `differentiate(fn, x)` and `jvp(fn, x, tangents)` serve the functions below alone.
"""

import importlib

import keras

if keras.backend.backend() not in ("jax", "tensorflow", "torch"):
    raise ImportError(
        "keras_regularize trains on the jax, tensorflow and torch backends of Keras. "
        f"Received: keras.backend.backend()={keras.backend.backend()!r}"
    )
backend = importlib.import_module(f"keras_regularize.autodiff._{keras.backend.backend()}")

from keras_regularize.autodiff.derivatives import (  # noqa: E402
    grad,
    hvp,
    input_gradient,
    jvp,
    straight_through,
    value_and_grad,
    vjp,
)
from keras_regularize.autodiff.functional import Batch, Forward  # noqa: E402

__all__ = [
    "Batch",
    "Forward",
    "grad",
    "hvp",
    "input_gradient",
    "jvp",
    "straight_through",
    "value_and_grad",
    "vjp",
]
