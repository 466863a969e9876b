"""What hyperparameters cost to find: layers that respond to them, searches beside a grid, and missing values."""

import keras
import numpy as np
from keras import layers, ops
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

BATCH, FEATURES, UNITS = 128, 256, 512
PENALTIES = 25  # Of a grid.


def table(quick=False, on_turn=None):
    return Group(self_tuning(quick, on_turn), searches(quick, on_turn), missing(quick, on_turn))


def step(model, *data):
    """A training step of a compiled model, waited for."""
    return lambda: float(np.ravel(model.train_on_batch(*data))[0]) and None


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def self_tuning(quick, on_turn):
    """A step of two hidden layers, plain, self-tuning, and with the steps of the hyperparameters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    h, y = rng.normal(size=(BATCH, 2)).astype("float32"), rng.integers(0, 10, BATCH)

    def responding():
        inputs, hyper = keras.Input((FEATURES,)), keras.Input((2,))
        z = kr.layers.SelfTuningDense(UNITS, "relu")([inputs, hyper])
        z = kr.layers.SelfTuningDense(UNITS, "relu")([z, hyper])
        return keras.Model([inputs, hyper], kr.layers.SelfTuningDense(10)([z, hyper]))

    def tuned(**options):
        rates = [kr.hyper.Hyperparameter(name, 0.1, lower=0.0) for name in ("a", "b")]
        return compiled(
            kr.models.SelfTuningNetwork(responding(), rates, warmup_epochs=0, **options)
        )

    dense = [layers.Dense(UNITS, "relu"), layers.Dense(UNITS, "relu"), layers.Dense(10)]
    plain = compiled(keras.Sequential([keras.Input((FEATURES,)), *dense]))
    paired = {"label": y, "validation": ((x, y),)}
    rows = {
        "Dense": step(plain, x, y),
        "SelfTuningDense": step(compiled(responding()), [x, h], y),
        "SelfTuningNetwork, 2 : 1": step(tuned(), x, paired),
        'style="delta", 5 : 1': step(tuned(style="delta", train_steps=5), x, paired),
    }
    timings = race(rows, 3 if quick else 15, repeats=10, warmups=1, on_turn=on_turn)
    title = f"{keras.backend.backend()}: a step of layers of {UNITS} units"
    return ratio_table(title, timings, "Dense")


def searches(quick, on_turn):
    """The penalty of a logistic regression: a grid, and two searches by the gradient."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=40) * (rng.random(40) < 0.3)
    x = rng.normal(size=(2, 150, 40))
    y = np.where(x @ w + rng.normal(size=(2, 150)) > 0, 1.0, -1.0)
    x, y = (ops.convert_to_tensor(values.astype("float32")) for values in (x, y))

    def loss(w, part):
        return ops.sum(ops.softplus(-y[part] * ops.matmul(x[part], w)))

    def training(w, a):
        return loss(w, 0) + 0.5 * ops.exp(a[0]) * ops.sum(w * w)

    def validation(w, a):
        return loss(w, 1)

    zeros, found = np.zeros(40, "float32"), {}

    def search(name, method, start=0.0, **options):
        def run():
            solver = method(training, validation, **options)
            result = solver.minimize(zeros, np.full(1, start, "float32"))
            found[name] = min(found.get(name, np.inf), result.outer_loss)

        return run

    def grid():
        # A solution for each point: one iteration of a search that goes nowhere.
        for start in np.linspace(-6, 6, PENALTIES):
            search("grid", kr.hyper.HOAG, start, max_iterations=1)()

    rows = {
        f"grid of {PENALTIES}": grid,
        "HOAG": search("HOAG", kr.hyper.HOAG, max_iterations=10),
        "MAID": search("MAID", kr.hyper.MAID, max_iterations=10, outer_lipschitz=40.0),
    }
    timings = race(rows, 1 if quick else 5, on_turn=on_turn)
    losses = {"validation": {name: f"{found[name.split()[0]]:.3f}" for name in rows}}
    title = f"{keras.backend.backend()}: the penalty of a logistic regression"
    return ratio_table(title, timings, f"grid of {PENALTIES}", losses)


def missing(quick, on_turn):
    """A step of SupNotMIWAE beside one of its classifier on values with zeros where they are missing."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(BATCH, 16)).astype("float32")
    mask, y = rng.random((BATCH, 16)) < 0.7, rng.integers(0, 10, BATCH)

    def network(outputs, size):
        inputs = [keras.Input((size,)), keras.Input((size,))]
        z = layers.Dense(64, "relu")(layers.Concatenate()(inputs))
        return keras.Model(inputs, layers.Dense(outputs)(z))

    decoder = [keras.Input((8,)), layers.Dense(64, "relu"), layers.Dense(32)]

    def method(num_latents, num_samples):
        model = kr.models.SupNotMIWAE(
            network(16, 16),
            keras.models.clone_model(keras.Sequential(decoder)),
            network(10, 16),
            num_latents=num_latents,
            num_samples=num_samples,
        )
        model.compile(keras.optimizers.SGD(0.01))
        return model

    given = [np.where(mask, values, 0.0).astype("float32"), mask.astype("float32")]
    holes = np.where(mask, values, np.nan).astype("float32")
    rows = {
        "classifier": step(compiled(network(10, 16)), given, y),
        "SupNotMIWAE(2, 1)": step(method(2, 1), holes, y),
        "SupNotMIWAE(10, 5)": step(method(10, 5), holes, y),
    }
    timings = race(rows, 3 if quick else 15, repeats=10, warmups=1, on_turn=on_turn)
    title = f"{keras.backend.backend()}: values of which 30 % are missing, (latents, samples)"
    return ratio_table(title, timings, "classifier")
