"""JAX: differentiation, and threading a step that reads and assigns variables through pure functions."""

import contextlib

import jax
import keras
import numpy as np

from keras_regularize.autodiff._compiled import (  # noqa: F401
    add_last,
    add_product,
    add_times,
    carries_mask,
    channels_first,
    class_maps,
    exact_segment_sums,
    extrapolate,
    first_maximum,
    hessian_products,
    in_place,
    is_compiling,
    join_last,
    jvp,
    log_add_exp,
    log_softmax,
    looked_at,
    no_recording,
    norms,
    one_hot_ids,
    power,
    put_last,
    random_states,
    recur,
    reshape,
    roll,
    scan,
    shorten,
    soft_threshold,
    stack,
    take_last,
    times,
    total,
    with_slopes,
    without_records,
)
from keras_regularize.autodiff._jax_convolutions import in_branch  # noqa: F401

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = True
# Whether operations run one by one: few large ones are fast then, and no compiler joins small ones.
RUNS_ONE_BY_ONE = False
# Whether products with a Hessian take less time by forward mode over reverse mode than by reverse mode twice.
FORWARD_OVER_REVERSE = True
# Whether Keras' means of losses divide float64 in float32.
DIVIDES_IN_FLOAT32 = False


def differentiate(fn, x):
    """`(value, aux), gradients` of `fn(x) -> (scalar, aux)`; `x` is a nested structure of tensors."""
    return jax.value_and_grad(fn, has_aux=True)(x)


def with_gradient(forward, backward):
    """`forward(*inputs)`, whose gradients are `backward(inputs, output, cotangent)`, differentiable too."""
    run = jax.custom_vjp(forward)

    def keep(*inputs):
        output = run(*inputs)  # Not `forward`: its own derivative is that of its operations.
        return output, (inputs, output)

    run.defvjp(keep, lambda kept, cotangent: backward(*kept, cotangent))
    return run


def compiled(fn):
    """`fn` of tensors as one program, compiled once per shapes."""
    return jax.jit(fn)


def read(variable):
    """The current value of a variable, unconnected to any recorded computation."""
    value = variable.value
    return jax.lax.stop_gradient(value) if isinstance(value, jax.core.Tracer) else value


def eager():
    """Context in which variables are made at once, also while a step is traced (nothing to do)."""
    return contextlib.nullcontext()


def readable(x):
    """Whether the values of a tensor are there to be looked at."""
    return not isinstance(x, jax.core.Tracer)


def train_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables, as Keras' pure `(state, data) -> (logs, state)`."""
    state, data = arguments
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return _threaded(step, data, groups, state)


def test_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables, as Keras' pure `(state, data) -> (logs, state)`."""
    state, data = arguments
    groups = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
    return _threaded(step, data, groups, state)


def _threaded(step, data, groups, state):
    """`step(data)` at the values `state` of groups of variables: `(result, new state)`."""
    # Strict, since a state that Keras splits in another way would be taken for one that stays as it is.
    mapping = [
        pair
        for group, values in zip(groups, state, strict=True)
        for pair in zip(group, values, strict=True)
    ]
    with keras.StatelessScope(state_mapping=mapping) as scope:
        result = step(data)
        new_state = tuple([scope.get_current_value(v) for v in group] for group in groups)
    return result, new_state


def predict_step(model, inner, arguments):
    """The `predict_step` of a model inside `model`, at the state that Keras passes to the outer one's."""
    state, data = arguments
    groups = (model.trainable_variables, model.non_trainable_variables)

    def step(data):
        inside = (inner.trainable_variables, inner.non_trainable_variables)
        outputs, changed = inner.predict_step(tuple([v.value for v in g] for g in inside), data)
        _assign(inside[1:], [changed])
        return outputs

    outputs, (_, non_trainable) = _threaded(step, data, groups, state)
    return outputs, non_trainable


def _assign(groups, values):
    for group, given in zip(groups, values, strict=True):
        for variable, value in zip(group, given, strict=True):
            variable.assign(value)


def apply_gradients(optimizer, gradients, variables):
    # `optimizer.apply` leaks a tracer when the loss is scaled; the pure form does not.
    slots = optimizer.variables
    values, slot_values = optimizer.stateless_apply(
        [v.value for v in slots], gradients, [v.value for v in variables]
    )
    for variable, value in zip((*variables, *slots), (*values, *slot_values), strict=True):
        variable.assign(value)


def dense(gradient):
    """The gradient as a tensor (it is one)."""
    return gradient


def read_rows(variable, indices):
    """Rows of a variable, without reading all of it."""
    return variable.value[indices]


def write_rows(variable, indices, rows):
    """Overwrites rows of a variable, in place under `jit`; rows written twice must be equal."""
    variable.assign(variable.value.at[indices].set(rows.astype(variable.dtype)))


def run_if(predicate, function, variables):
    """Runs `function()`, which assigns `variables`, if a scalar tensor is true."""

    def run(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))) as scope:
            function()
            return [scope.get_current_value(v) for v in variables]

    values = jax.lax.cond(predicate, run, lambda values: values, [v.value for v in variables])
    for variable, value in zip(variables, values):
        variable.assign(value)


run_or_undo = run_if


def num_replicas():
    return 1  # Under `keras.distribution` a step sees the whole batch.


def reduce_mean_over_replicas(tensors):
    return tensors


def gather_over_replicas(tensors):
    """The rows of all replicas (a step sees the whole batch)."""
    return tensors


def gather_batch(tensors):
    """`gather_over_replicas`, and a function that takes the own rows out again."""
    return tensors, lambda rows: rows


def synchronize(variables):
    """Makes the variables equal on all processes (one process here)."""


def average(variables):
    """Averages floating variables over processes; whether it did (one process here)."""
    return False


@contextlib.contextmanager
def keep_weights_on_error(model):
    """Gives a model its weights back when an exception leaves a Keras loop before the first step is done.

    Keras moves the weights out of the model while its loop runs; an exception during the first trace would
    otherwise leave the user with freshly initialized ones. Later ones Keras handles itself.
    """
    slots = model.optimizer.variables if model.optimizer is not None else []
    saved = [(v, v.value) for v in (*model.variables, *slots, *model.metrics_variables)]
    try:
        yield
    except BaseException:
        # The first completed step consumes (donates) the arrays it started from.
        if not any(value.is_deleted() for _, value in saved):
            for variable, value in saved:
                variable.assign(value)
        raise


def peek(x):
    """A tensor's values as a NumPy array where they can be had outside of a trace, else `None`."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, jax.core.Tracer) or not isinstance(x, jax.Array) or not x.is_fully_addressable:
        return None
    return np.asarray(x)


def largest(x):
    """The largest entry of each row `(n, k)`, and its position."""
    return jax.numpy.max(x, axis=-1), jax.numpy.argmax(x, axis=-1)


def cumulative_logsumexp(x):
    """`log Σ_{j ≤ i} exp(x_j)` over the last axis."""
    return jax.lax.cumlogsumexp(x, axis=x.ndim - 1)


def scan_with_gradient(step, carry, inputs):
    """`scan`, which has a gradient here."""
    return scan(step, carry, inputs)
