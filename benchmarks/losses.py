"""What a loss costs, forward and backward, relative to Keras' cross-entropy on the same logits."""

import inspect
import textwrap

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

SHAPE = (4096, 1000)
BASELINE = "keras CategoricalCrossentropy, rows"
# By name of the parameter, for losses that cannot be made without.
ARGUMENTS = {
    "num_classes": SHAPE[1],
    "class_counts": [1000 // (k + 1) + 1 for k in range(SHAPE[1])],  # A long tail.
}
# Losses whose arithmetic is that of cross-entropy and a few passes more, and what they may cost.
BAR = 1.3
ALIKE = (
    "ACLS",
    "FLSD",
    "LDAM",
    "LogitAdjusted",
    "MaxSup",
    "MbLS",
    "PolyLoss",
    "Seesaw",
    "SpectralDecoupling",
    "SymmetricCrossentropy",
    "ZLoss",
)


def compiled(function):
    """`function` as a user's training loop would run it on this backend."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)  # As `fit` does.
    import torch

    return torch.no_grad()(function)  # As `fit` does: the derivative is not to be differentiated.


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
    """`(instances to which class ids and one-hot rows of labels mean the same, names of all others)`."""
    generator = np.random.default_rng(0)
    logits = keras.ops.convert_to_tensor(generator.normal(size=(2, SHAPE[1])).astype("float32"))
    ids = np.array([0, 1], "int32")
    rows = np.eye(SHAPE[1], dtype="float32")[ids]
    found, others = {}, []
    for name in kr.losses.__all__:
        symbol = getattr(kr.losses, name)
        if not (inspect.isclass(symbol) and issubclass(symbol, keras.losses.Loss)):
            continue
        loss = make(symbol)
        try:
            if loss is None:
                raise ValueError
            np.testing.assert_allclose(*(float(loss(y, logits)) for y in (ids, rows)), rtol=1e-3)
        except Exception:  # Whatever it says: it is made for other data.
            others.append(name)
        else:
            found[name] = loss
    return found, others


def measure(rounds=9, on_turn=None):
    """`({name: Timing}, names of losses for other data)`."""
    generator = np.random.default_rng(0)
    # Wide enough for margins of ten to act.
    logits = keras.ops.convert_to_tensor((4 * generator.normal(size=SHAPE)).astype("float32"))
    ids = generator.integers(0, SHAPE[1], SHAPE[0]).astype("int32")
    labels = {
        "ids": keras.ops.convert_to_tensor(ids),
        "rows": keras.ops.convert_to_tensor(np.eye(SHAPE[1], dtype="float32")[ids]),
    }
    contestants = {}
    for symbol, form in (
        (keras.losses.CategoricalCrossentropy, "rows"),
        (keras.losses.SparseCategoricalCrossentropy, "ids"),
        (keras.losses.CategoricalFocalCrossentropy, "rows"),
    ):
        loss = symbol(from_logits=True)
        contestants[f"keras {symbol.__name__}, {form}"] = contestant(loss, labels[form], logits)
    losses, others = classification_losses()
    for name, loss in losses.items():
        for form, y_true in labels.items():
            contestants[f"{name}, {form}"] = contestant(loss, y_true, logits)
    return race(contestants, rounds, warmups=2, on_turn=on_turn), others


def table(quick=False, on_turn=None):
    timings, others = measure(3 if quick else 15, on_turn)
    title = f"{keras.backend.backend()}: losses, forward and backward, logits {SHAPE}"
    bars = {name: BAR for name in timings if name.split(",")[0] in ALIKE}
    parts = [ratio_table(title, timings, BASELINE, bars=bars)]
    if others:
        names = "For other data, not measured: " + ", ".join(others) + "."
        parts.append(Text("\n".join(textwrap.wrap(names, 78)), style="dim"))
    return Group(*parts)
