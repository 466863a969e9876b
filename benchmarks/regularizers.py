"""What a penalty on a kernel costs, value and gradient, relative to one matrix product of that size."""

import inspect
import textwrap

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.losses import compiled
from benchmarks.timing import race, ratio_table

BASELINE = "kernel @ kernel"
# Bars in matrix products, of a forward and a backward pass through as many as the docstring counts: three of
# each product (a Gram matrix, and two for its gradient), and room for the elementwise passes.
GRAM = 4.0
# At the full size singular vectors cost less than a product, and their Rayleigh quotients a pass or two.
VECTORS = 2.0


def make(symbol, kernel):
    """An instance for a matrix with the defaults, anchored to zeros where it has an anchor."""
    parameters = inspect.signature(symbol).parameters
    given = {
        name: np.zeros_like(kernel) if name != "matrix" else np.eye(len(kernel), dtype="float32")
        for name in ("reference", "importance", "matrix")
        if name in parameters
    }
    return symbol(**given)


def contestant(penalty, kernel):
    step = compiled(kr.autodiff.value_and_grad(penalty))

    def run():
        value, gradient = step(kernel)
        keras.ops.convert_to_numpy(value)
        keras.ops.convert_to_numpy(gradient[0, 0])  # Waits.

    return run


def product(kernel):
    step = compiled(keras.ops.matmul)

    def run():
        keras.ops.convert_to_numpy(step(kernel, kernel)[0, 0])

    return run


def table(quick=False, on_turn=None):
    size = 512 if quick else 4096
    values = np.random.default_rng(0).normal(size=(size, size)).astype("float32") / size**0.5
    kernel = keras.ops.convert_to_tensor(values)
    contestants, others = {BASELINE: product(kernel)}, []
    for name in kr.regularizers.__all__:
        symbol = getattr(kr.regularizers, name)
        if not inspect.isclass(symbol):
            continue
        try:
            run = contestant(make(symbol, values), kernel)
            run()
        except Exception:  # Whatever it says: it is for activities, or needs further arguments.
            others.append(name)
        else:
            contestants[name] = run
    timings = race(contestants, 5 if quick else 3, on_turn=on_turn)
    bars = {name: GRAM for name in ("SoftOrthogonality", "GOR", "MHE")}
    bars |= {name: VECTORS for name in ("Spectral", "SRIP") if not quick}
    bars = {name: bar for name, bar in bars.items() if name in timings}
    title = f"{keras.backend.backend()}: penalties on a {size}×{size} kernel, value and gradient"
    parts = [ratio_table(title, timings, BASELINE, bars=bars)]
    if others:
        names = "Not for a matrix alone, not measured: " + ", ".join(others) + "."
        parts.append(Text("\n".join(textwrap.wrap(names, 78)), style="dim"))
    return Group(*parts)
