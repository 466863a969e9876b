"""Calibration: confidence that can be believed, on digits under so much noise that many cannot be told apart."""

import functools

import keras
import numpy as np
from keras import layers, ops

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import digits, focal, keras_methods, mlp, scores

NOISE = 0.4

network = functools.partial(mlp, hidden=1, units=64)


def data(generator):
    clean = digits(generator, 400, 300)

    def noisy(part):
        x, y = part
        return x + NOISE * generator.normal(size=x.shape).astype("float32"), y

    return Data(noisy(clean.train), noisy(clean.validation), noisy(clean.test))


def crossentropy(logits, y):
    log_p = ops.convert_to_numpy(ops.log_softmax(logits, axis=-1))
    return -np.mean(log_p[np.arange(len(y)), y])


def measure(model, data, part):
    x, y = getattr(data, part)
    logits = scores(model, x)
    calibration = kr.metrics.ExpectedCalibrationError(from_logits=True)
    calibration.update_state(y, logits)
    return {
        "ece": float(calibration.result()),
        "crossentropy": crossentropy(logits, y),
        "accuracy": np.mean(np.argmax(logits, axis=-1) == y),
    }


def adam():
    return keras.optimizers.Adam(5e-3)


def temperature_scaling(run):
    """Plain training, and then the one number that makes its logits fit the validation data best."""
    model = run.train(network())
    x, y = run.data.validation
    logits = scores(model, x)
    best = min(np.geomspace(0.5, 20, 100), key=lambda t: crossentropy(logits / t, y))
    return keras.Sequential([model, layers.Rescaling(1 / best)])


def ensemble(run, members):
    return kr.models.Ensemble([run.train(network()) for _ in range(members)])


def averaged(run, **setting):
    averaging = kr.callbacks.StochasticWeightAveraging(start=run.epochs // 2, **setting)
    return run.train(network(), callbacks=[averaging])


def loss(key, settings):
    make = getattr(kr.losses, key)
    return Method(f"losses.{key}", lambda run, **s: run.train(network(), make(**s)), settings)


METHODS = [
    *keras_methods(network, learning_rate=5e-3),
    Method(
        None,
        lambda run, gamma: run.train(network(), focal(gamma)),
        grid(gamma=(1.0, 2.0, 3.0, 5.0)),
        "focal loss",
    ),
    Method(None, temperature_scaling, label="temperature scaling"),
    loss("ACLS", grid(margin=(1.0, 3.0, 6.0, 10.0))),
    loss("FLSD", grid(gamma=(1.0, 2.0, 3.0, 5.0), low_confidence_gamma=(2.0, 3.0, 5.0, 7.0))),
    loss("MDCA", grid(factor=(1.0, 5.0, 20.0, 20.0), gamma=(0.0, 0.0, 0.0, 2.0))),
    loss("MaxSup", grid(factor=(0.02, 0.05, 0.1, 0.2))),
    loss("MbLS", grid(margin=(1.0, 3.0, 6.0, 10.0))),
    loss("SpectralDecoupling", grid(factor=(0.001, 0.01, 0.03, 0.1))),
    Method(
        "models.SAM",
        lambda run, **s: run.train(kr.models.SAM(network(), **s)),
        grid(rho=(0.05, 0.1, 0.2, 0.4)),
        passes=2,
    ),
    Method(
        "models.RDrop",
        lambda run, rate, alpha: run.train(kr.models.RDrop(network(dropout=rate), alpha=alpha)),
        grid(rate=(0.25, 0.25, 0.5, 0.5), alpha=(1.0, 3.0, 1.0, 3.0)),
        passes=2,
    ),
    Method(
        "callbacks.StochasticWeightAveraging",
        averaged,
        grid(learning_rate=(None, 0.002, 0.01, 0.02)),
    ),
    Method("models.Ensemble", ensemble, [{"members": 4}], passes=4),
]

PAGE = """
{best}

{table}

{picture}

{protocol}
"""

TASK = Task(
    title="calibration",
    data=data,
    measure=measure,
    measures={
        "ece": Measure("calibration error, %", more_is_better=False),
        "crossentropy": Measure("cross-entropy", more_is_better=False, percent=False),
        "accuracy": Measure("accuracy, %"),
    },
    chosen_by="crossentropy",
    methods=METHODS,
    optimizer=adam,
    epochs=40,
    batch_size=50,
    page=PAGE,
)
