"""What a loss costs, forward and backward, relative to Keras' cross-entropy on the same logits."""

import inspect
import textwrap

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

SHAPE = (2048, 1000)
BASELINE = "keras SparseCategoricalCrossentropy"
# By name of the parameter, for losses that cannot be made without.
ARGUMENTS = {"num_classes": SHAPE[1], "class_counts": [100] * SHAPE[1]}


def compiled(function):
    """`function` as a user's training loop would run it on this backend."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def contestant(loss, y_true, logits):
    """A function that computes the loss and its gradient with respect to the logits."""
    step = compiled(lambda y, z: kr.autodiff.value_and_grad(lambda z: loss(y, z))(z))

    def run():
        value, _ = step(y_true, logits)
        keras.ops.convert_to_numpy(value)  # Waits.

    return run


def make(symbol):
    """An instance that takes logits, or `None` if it needs arguments not known here."""
    parameters = inspect.signature(symbol).parameters
    given = {name: value for name, value in ARGUMENTS.items() if name in parameters}
    if "from_logits" in parameters:
        given["from_logits"] = True
    try:
        return symbol(**given)
    except (TypeError, ValueError):
        return None


def classification_losses():
    """`(instances that take class ids and logits, names of all others)`."""
    logits = keras.ops.convert_to_tensor(np.ones((2, SHAPE[1]), "float32"))
    ids = keras.ops.convert_to_tensor(np.array([0, 1]))
    found, others = {}, []
    for name in kr.losses.__all__:
        symbol = getattr(kr.losses, name)
        if not (inspect.isclass(symbol) and issubclass(symbol, keras.losses.Loss)):
            continue
        loss = make(symbol)
        try:
            if loss is None:
                raise ValueError
            loss(ids, logits)
        except Exception:  # Whatever it says: it is made for other data.
            others.append(name)
        else:
            found[name] = loss
    return found, others


def measure(rounds=9, on_turn=None):
    """`({name: Timing}, names of losses for other data)`."""
    generator = np.random.default_rng(0)
    logits = keras.ops.convert_to_tensor(generator.normal(size=SHAPE).astype("float32"))
    ids = generator.integers(0, SHAPE[1], SHAPE[0])
    rows = keras.ops.convert_to_tensor(np.eye(SHAPE[1], dtype="float32")[ids])
    ids = keras.ops.convert_to_tensor(ids.astype("int32"))

    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    contestants = {BASELINE: contestant(crossentropy, ids, logits)}
    for symbol in (keras.losses.CategoricalCrossentropy, keras.losses.CategoricalFocalCrossentropy):
        loss = symbol(from_logits=True)
        contestants[f"keras {symbol.__name__}"] = contestant(loss, rows, logits)
    losses, others = classification_losses()
    contestants.update({name: contestant(loss, ids, logits) for name, loss in losses.items()})
    return race(contestants, rounds, warmups=2, on_turn=on_turn), others


def table(quick=False, on_turn=None):
    timings, others = measure(3 if quick else 15, on_turn)
    title = f"{keras.backend.backend()}: losses, forward and backward, logits {SHAPE}"
    parts = [ratio_table(title, timings, BASELINE)]
    if others:
        names = "For other data, not measured: " + ", ".join(others) + "."
        parts.append(Text("\n".join(textwrap.wrap(names, 78)), style="dim"))
    return Group(*parts)
