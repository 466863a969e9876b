"""TensorFlow: differentiation, and the replica arithmetic of `tf.distribute`."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = True
# Whether operations run one by one: few large ones are fast then, and no compiler joins small ones.
RUNS_ONE_BY_ONE = False
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


def jvp(fn, x, tangents):
    """`(outputs, products)` of `fn(*x)`; `x` and `tangents` are sequences of tensors."""
    return keras.ops.jvp(fn, tuple(x), tuple(tangents))


def no_recording():
    """Context in which derivatives are not themselves recorded for an outer derivative (nothing to do)."""
    return contextlib.nullcontext()


def read(variable):
    """The current value of a variable, unconnected to any recorded computation."""
    return tf.stop_gradient(variable.value)


def eager():
    """Context in which variables are made at once, also while a step is traced."""
    return tf.init_scope()


def readable(x):
    """Whether the values of a tensor are there to be looked at."""
    return not tf.is_symbolic_tensor(x)


def random_states():
    """State of random numbers outside of the model's variables (none here)."""
    return []


def train_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables: here they are the real thing."""
    (data,) = arguments
    return step(data)


test_step = train_step


def predict_step(model, inner, arguments):
    """The `predict_step` of a model inside `model`."""
    return inner.predict_step(*arguments)


def is_compiling():
    """Whether `torch.compile` is at work, which runs Python code of its own kind only."""
    return False


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
    return tensors if context is None else [context.all_gather(t, axis=0) for t in tensors]


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


def take_last(values, indices):
    """`values[…, indices]` along the last axis, for indices that are not negative."""
    return keras.ops.take_along_axis(values, indices, axis=-1)


def carries_mask(x):
    """Whether a tensor may carry a mask of Keras."""
    return True


def add_last(x, indices, values):
    """`x` with values `(…)` added at `indices (…)` of the last axis, for values without gradient."""
    ops = keras.ops
    places = ops.equal(indices[..., None], ops.arange(x.shape[-1], dtype="int32"))
    return x + ops.where(places, ops.cast(values, x.dtype)[..., None], 0.0)


def log_softmax(x):
    """Over the last axis."""
    return keras.ops.log_softmax(x, axis=-1)


def first_maximum(x):
    """Position of the largest entry of the last axis, of several the first."""
    ops = keras.ops
    x = ops.stop_gradient(x)
    # `ops.argmax` takes a hundred times as long as `ops.amax` on JAX. A row of NaNs has no largest entry, and
    # the position must exist all the same.
    last = x.shape[-1] - 1
    tops = x >= ops.amax(x, axis=-1, keepdims=True)
    return ops.amin(ops.where(tops, ops.arange(last + 1, dtype="int32"), last), axis=-1)


def exact_segment_sums(columns, segments, count):
    """`None`: there is no operation of its own for that."""


def largest(x):
    """The largest entry of the last axis and its position."""
    return tf.reduce_max(x, axis=-1), tf.argmax(x, axis=-1, output_type=tf.int32)
