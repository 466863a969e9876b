"""TensorFlow: differentiation, and the replica arithmetic of `tf.distribute`."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

# Whether a compiled step may differentiate through a gradient.
COMPILES_DOUBLE_BACKWARD = True


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


def random_states():
    """State of random numbers outside of the model's variables (none here)."""
    return []


def train_step(model, step, arguments):
    """Runs `step(data)`, which reads and assigns variables: here they are the real thing."""
    (data,) = arguments
    return step(data)


test_step = train_step


def apply_gradients(optimizer, gradients, variables):
    # The Keras optimizer sums over replicas what is already the global gradient on each.
    replicas = num_replicas()
    if replicas > 1:
        gradients = [g / replicas for g in gradients]
    optimizer.apply(gradients, variables)


def read_rows(variable, indices):
    """Rows of a variable, without reading all of it."""
    return tf.gather(variable.value, indices)


def write_rows(variable, indices, rows):
    """Overwrites rows of a variable in place; rows written twice must be equal."""
    variable.value.scatter_update(tf.IndexedSlices(rows, indices))


def in_branch(fn):
    """`fn`, to be traced as the body of a branch or loop (nothing to do)."""
    return fn


def run_if(predicate, function, variables):
    """Runs `function()`, which assigns `variables`, if a scalar tensor is true."""

    def run():
        function()
        return 0

    tf.cond(predicate, run, lambda: 0)


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


def exact_segment_sums(columns, segments, count):
    """`None`: there is no operation of its own for that."""


def largest(x):
    """The largest entry of the last axis and its position."""
    return tf.reduce_max(x, axis=-1), tf.argmax(x, axis=-1, output_type=tf.int32)
