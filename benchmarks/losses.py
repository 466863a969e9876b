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


# Shapes at which losses race the obvious code of torch, with what they may take: small ones are all overhead.
DUEL_BARS = {(256, 1000): 1.1, (128, 10): 2.0}


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


def torch_codes(counts):
    """`{name: (our loss, the obvious code in torch)}`, as the authors of the losses write them."""
    import torch
    from torch.nn.functional import cross_entropy, relu

    margins = torch.tensor(counts, dtype=torch.float32) ** -0.25
    margins = 0.5 * margins / margins.max()

    def max_sup(y, z):
        return cross_entropy(z, y) + 0.1 * (z.max(dim=1).values - z.mean(dim=1)).mean()

    def mbls(y, z):
        return cross_entropy(z, y) + 0.1 * relu(z.max(dim=1, keepdim=True).values - z - 10.0).mean()

    def ldam(y, z):
        label = torch.zeros_like(z, dtype=torch.bool).scatter_(1, y[:, None], True)
        return cross_entropy(30.0 * torch.where(label, z - margins[y][:, None], z), y)

    return {
        "MaxSup": (kr.losses.MaxSup(), max_sup),
        "MbLS": (kr.losses.MbLS(), mbls),
        "LDAM": (kr.losses.LDAM(counts), ldam),
    }


def duels(quick=False, on_turn=None):
    """Tables of losses beside the obvious code, on torch; nothing elsewhere."""
    if keras.backend.backend() != "torch":
        return []
    tables, generator = [], np.random.default_rng(0)
    for shape, bar in DUEL_BARS.items():
        z = keras.ops.convert_to_tensor((4 * generator.normal(size=shape)).astype("float32"))
        y = keras.ops.convert_to_tensor(generator.integers(0, shape[1], shape[0]))
        for name, pair in torch_codes([1000 // (k + 1) + 1 for k in range(shape[1])]).items():
            runs = {name: contestant(pair[0], y, z), "torch": contestant(pair[1], y, z)}
            timings = race(runs, 20 if quick else 100, repeats=5, warmups=5, on_turn=on_turn)
            title = f"torch: {name} beside the code of its authors, logits {shape}"
            tables.append(ratio_table(title, timings, "torch", bars={name: bar}))
    return tables


def table(quick=False, on_turn=None):
    timings, others = measure(3 if quick else 15, on_turn)
    title = f"{keras.backend.backend()}: losses, forward and backward, logits {SHAPE}"
    bars = {name: BAR for name in timings if name.split(",")[0] in ALIKE}
    parts = [ratio_table(title, timings, BASELINE, bars=bars), *duels(quick, on_turn)]
    if others:
        names = "For other data, not measured: " + ", ".join(others) + "."
        parts.append(Text("\n".join(textwrap.wrap(names, 78)), style="dim"))
    return Group(*parts)
