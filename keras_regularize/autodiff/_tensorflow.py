"""TensorFlow: differentiation, and the replica arithmetic of `tf.distribute`."""

import contextlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = True
# Whether operations run one by one: few large ones are fast then, and no compiler joins small ones.
RUNS_ONE_BY_ONE = False
# Whether products with a Hessian take less time by forward mode over reverse mode than by reverse mode twice.
FORWARD_OVER_REVERSE = False
# Whether Keras' means of losses divide float64 in float32.
DIVIDES_IN_FLOAT32 = False


def differentiate(fn, x):
    """`(value, aux), gradients` of `fn(x) -> (scalar, aux)`; `x` is a nested structure of tensors."""
    # A fresh tensor per leaf, so that `fn` closing over the same tensor elsewhere sees a constant.
    x = keras.tree.map_structure(tf.identity, x)
    leaves = keras.tree.flatten(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(leaves)
        value, aux = fn(x)
    gradients = tape.gradient(value, leaves, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # Embeddings give `IndexedSlices`; densified here, an outer tape still sees them.
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    return (value, aux), keras.tree.pack_sequence_as(x, gradients)


def with_gradient(forward, backward):
    """`forward(*inputs)`, whose gradients are `backward(inputs, output, cotangent)`, differentiable too."""

    def run(*inputs):
        # As others see it: what `forward` returns has the derivative of its operations.
        outputs: list[Any] = []

        @tf.custom_gradient
        def inner(*arguments):
            output = forward(*arguments)

            def rule(cotangent):  # Forward mode asks for it before there is an output.
                return backward(inputs, *(outputs or [output]), cotangent)

            return output, rule

        outputs.append(inner(*inputs))
        return outputs[0]

    return run


def compiled(fn):
    """`fn` of tensors as one program, compiled once per shapes."""
    # As it stands: autograph would rewrite code of ours, which has no branches on data.
    return tf.function(fn, autograph=False)


def read(variable):
    """The current value of a variable, unconnected to any recorded computation."""
    return tf.stop_gradient(variable.value)


def eager():
    """Context in which variables are made at once, also while a step is traced."""
    return tf.init_scope()


def readable(x):
    """Whether the values of a tensor are there to be looked at."""
    return not tf.is_symbolic_tensor(x)


def train_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables: here they are the real thing."""
    (data,) = arguments
    return step(data)


test_step = train_step


def predict_step(model, inner, arguments):
    """The `predict_step` of a model inside `model`."""
    return inner.predict_step(*arguments)


def apply_gradients(optimizer, gradients, variables):
    # The Keras optimizer sums over replicas what is already the global gradient on each.
    replicas = num_replicas()
    if replicas > 1:
        gradients = [g / replicas for g in gradients]
    optimizer.apply(gradients, variables)


def dense(gradient):
    """The gradient as a tensor; that of an embedding holds rows by their ids, which may repeat."""
    return tf.convert_to_tensor(gradient)


def read_rows(variable, indices):
    """Rows of a variable, without reading all of it."""
    return tf.gather(variable.value, indices)


def write_rows(variable, indices, rows):
    """Overwrites rows of a variable in place; rows written twice must be equal."""
    variable.value.scatter_update(tf.IndexedSlices(tf.cast(rows, variable.dtype), indices))


def in_branch(fn):
    """`fn`, to be traced as the body of a branch or loop (nothing to do)."""
    return fn


def run_if(predicate, function, variables):
    """Runs `function()`, which assigns `variables`, if a scalar tensor is true."""

    def run():
        function()
        return 0

    tf.cond(predicate, run, lambda: 0)


def run_or_undo(predicate, function, variables):
    """`run_if` for a function in which replicas meet, as they cannot do in a branch."""
    if num_replicas() == 1:
        return run_if(predicate, function, variables)
    before = [tf.identity(v.value) for v in variables]
    function()
    for variable, value in zip(variables, before):
        variable.assign(tf.where(predicate, variable.value, value))


def num_replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync


def reduce_mean_over_replicas(tensors):
    if num_replicas() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    return tensors if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, tensors)


def gather_over_replicas(tensors):
    """The rows of all replicas one after the other, the same on each."""
    if num_replicas() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    if context is None:
        return tensors
    # What is gathered has forgotten its shape.
    gathered = [context.all_gather(t, axis=0) for t in tensors]
    return [tf.ensure_shape(g, [None, *t.shape[1:]]) for g, t in zip(gathered, tensors)]


def gather_batch(tensors):
    """`gather_over_replicas` with gradients, and a function that takes a replica's own rows out again."""
    context = tf.distribute.get_replica_context()
    if num_replicas() == 1 or context is None:
        return tensors, lambda rows: rows
    size = tf.shape(tensors[0])[0]
    sizes = context.all_gather(size[None], axis=0)
    begin = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    return gather_over_replicas(tensors), lambda rows: rows[begin : begin + size]


def synchronize(variables):
    """Makes the variables equal on all processes (`tf.distribute` has done so)."""


def average(variables):
    """Averages floating variables over processes; whether it did (`tf.distribute` aggregates them itself)."""
    return False


def keep_weights_on_error(model):
    """Gives a model its weights back when an exception leaves a Keras loop (they never leave it here)."""
    return contextlib.nullcontext()


def peek(x):
    """A tensor's values as a NumPy array where they can be had outside of a graph, else `None`."""
    if isinstance(x, np.ndarray):
        return x
    return x.numpy() if isinstance(x, tf.Tensor) and not tf.is_symbolic_tensor(x) else None


def largest(x):
    """The largest entry of each row `(n, k)`, and its position."""
    return tf.reduce_max(x, axis=-1), tf.argmax(x, axis=-1, output_type=tf.int32)


def cumulative_logsumexp(x):
    """`log Σ_{j ≤ i} exp(x_j)` over the last axis."""
    return tf.math.cumulative_logsumexp(x, axis=-1)


def scan_with_gradient(step, carry, inputs):
    """`scan` with steps written out where their number is known: XLA has no gradient for its loop."""
    if not inputs[0].shape[0]:
        return scan(step, carry, inputs)
    outputs = []
    for given in zip(*(tf.unstack(x) for x in inputs)):
        carry, output = step(carry, given)
        outputs.append(output)
    return tf.stack(outputs)
