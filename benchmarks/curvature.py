"""What products with the Hessian cost in gradients, Lanczos in products, and a loss surface in evaluations."""

import importlib.util
import unittest.mock

import keras
import numpy as np
from keras import layers
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.timing import race, ratio_table
from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis.curvature._lanczos import lanczos

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SAMPLES = 256
STEPS = 20


def network(large=False):
    """A convolutional network of 0.1 or of 1.0 million weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(800 if large else 64, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.compile(loss=LOSS)
    return model


def data(samples=SAMPLES):
    x = np.random.default_rng(0).normal(size=(samples, 28, 28, 1)).astype("float32")
    return x, np.arange(samples) % 10


def products(batch_size):
    """A gradient and the products over the same batches."""
    objective = Objective("benchmark", network(), *data(), batch_size=batch_size)
    vector = np.random.default_rng(1).normal(size=objective.size).astype("float32")
    runs = {
        "gradient": lambda: objective.gradient(),
        "Hessian-vector product": lambda: objective.hessian_product(vector),
        "Gauss-Newton product": lambda: objective.gauss_newton_product(vector),
    }
    return {name: _quiet(run) for name, run in runs.items()}


def iterations():
    """A product, and twenty Lanczos steps, with a million weights."""
    objective = Objective("benchmark", network(large=True), *data(), batch_size=128)
    random = np.random.default_rng(1)
    vector = random.normal(size=objective.size).astype("float32")
    return {
        "Hessian-vector product": _quiet(lambda: objective.hessian_product(vector)),
        f"{STEPS} Lanczos steps": _quiet(
            lambda: lanczos(objective.hessian_product, vector, STEPS, random)
        ),
    }


def surfaces(steps):
    """A loss surface and as many evaluations; both with what they compile."""
    model, (x, y) = network(), data()
    model.evaluate(x, y, batch_size=128, verbose=0)

    def evaluations():
        for _ in range(steps * steps):
            model.evaluate(x, y, batch_size=128, verbose=0)

    return {
        f"{steps * steps} times evaluate": evaluations,
        f"loss_surface of {steps} x {steps}": _quiet(
            lambda: kr.analysis.loss_surface(model, x, y, steps=steps, batch_size=128)
        ),
    }


def peers():
    """PyHessian and ours on one batch of one model: `(contestants, results)`."""
    import pyhessian
    import torch

    model, (x, y) = network(), data()
    tensors = torch.as_tensor(x), torch.as_tensor(y)
    results = {}

    class Logits(torch.nn.Module):
        """What PyHessian takes: a module, whose parameters are all trainable."""

        def __init__(self):
            super().__init__()
            self.inner = model
            for variable in model.non_trainable_variables:
                variable.value.requires_grad = False

        def forward(self, inputs):
            return self.inner(inputs, training=False)

    def theirs(name, run):
        def timed():
            torch.manual_seed(0)
            drawn.clear()
            computer = pyhessian.hessian(
                Logits(), torch.nn.CrossEntropyLoss(), data=tensors, cuda=False
            )
            with unittest.mock.patch("torch.randint_like", recorded):
                results[name] = run(computer)

        return timed

    def ours(name, run):
        def timed():
            results[name] = run()

        return timed

    drawn: list = []  # The signs of PyHessian, for both.

    def recorded(parameter, **options):
        signs = torch.randint(0, options["high"], parameter.shape)
        drawn.append((parameter, (2.0 * signs - 1).numpy()))
        return signs

    def probes():
        # In the order of the variables, which is not that of a module's parameters.
        variables = model.trainable_variables
        found = []
        for i in range(0, len(drawn), len(variables)):
            signs = {id(parameter): array for parameter, array in drawn[i : i + len(variables)]}
            found.append([signs[id(v.value)] for v in variables])
        return found

    options = {"batch_size": SAMPLES, "seed": 0}
    return {
        "PyHessian trace, 30 probes": theirs(
            "PyHessian trace", lambda c: np.mean(c.trace(maxIter=30, tol=0.0))
        ),
        "hessian_trace, 30 probes": ours(
            "trace",
            lambda: kr.analysis.hessian_trace(model, x, y, probes=probes(), **options).trace,
        ),
        "PyHessian top eigenvalue": theirs(
            "PyHessian eigenvalue", lambda c: c.eigenvalues(maxIter=300, tol=1e-4)[0][0]
        ),
        "hessian_eigenvalues": ours(
            "eigenvalue",
            lambda: kr.analysis.hessian_eigenvalues(
                model, x, y, which="magnitude", tolerance=1e-3, **options
            ).eigenvalues[0],
        ),
    }, results


def table(quick=False, on_turn=None):
    rounds = 3 if quick else 9
    name = keras.backend.backend()
    parts = []
    for batch_size in (SAMPLES, SAMPLES // 4):
        timings = race(products(batch_size), rounds, on_turn=on_turn)
        title = f"{name}: {SAMPLES} images in batches of {batch_size}"
        bars = {"Hessian-vector product": 2.2}
        parts.append(ratio_table(title, timings, "gradient", bars=bars))
    timings = race(iterations(), 3, on_turn=on_turn)
    title = f"{name}: a million weights"
    bars = {f"{STEPS} Lanczos steps": 25.0}
    parts.append(ratio_table(title, timings, "Hessian-vector product", bars=bars))
    contestants = surfaces(5 if quick else 25)
    timings = race(contestants, 1, warmups=0, on_turn=on_turn)
    first, second = contestants
    parts.append(ratio_table(f"{name}: a surface", timings, first, bars={second: 1.1}))
    if name == "torch" and importlib.util.find_spec("pyhessian"):
        contestants, results = peers()
        timings = race(contestants, 3, on_turn=on_turn)
        for title, keys in (("trace", [0, 1]), ("top eigenvalue", [2, 3])):
            names = [list(contestants)[i] for i in keys]
            chosen = {key: timings[key] for key in names}
            parts.append(ratio_table(title, chosen, names[0], bars={names[1]: 1.0}))
        parts.append(Text("  ".join(f"{key} {value:.5g}" for key, value in results.items())))
    return Group(*parts)


def _quiet(run):
    def timed():
        run()

    return timed
