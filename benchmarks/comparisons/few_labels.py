"""Few labels: a thousand digits of which fifty have a label."""

import keras
import numpy as np

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import CLASSES, accuracy, digits, keras_methods, mlp, scores

TRAINING = 1000
LABELLED = 50


def data(generator):
    """`train` are the labelled images, so often that an epoch has as many steps; `all` has -1 for no label."""
    drawn = digits(generator, TRAINING, 100)
    x, y = drawn.train
    rows = np.arange(TRAINING) % LABELLED
    # The batches of `fit` are drawn anew in each epoch: about one in twenty images of a batch has a label.
    labels = np.where(np.arange(TRAINING) < LABELLED, y, -1)
    return Data((x[rows], y[rows]), drawn.validation, drawn.test, {"all": (x, labels)})


def measure(model, data, part):
    return {"accuracy": accuracy(model, *getattr(data, part))}


def adam():
    return keras.optimizers.Adam(3e-3)


def of_all(run, model):
    x, y = run.data.more["all"]
    return run.train(model, x=x, y=y)


def wrapped(key, settings, passes, label="", **options):
    make = getattr(kr.models, key)
    return Method(
        f"models.{key}",
        lambda run, **s: of_all(run, make(mlp(), **s, **options)),
        settings,
        label,
        passes,
    )


def pseudo_labels(run, confidence):
    """Trains on the labels, then on the network's own predictions too where it is sure."""
    model = run.train(mlp(), epochs=run.epochs / 2)
    x, y = run.data.more["all"]
    p = keras.ops.convert_to_numpy(keras.ops.softmax(scores(model, x)))
    labels = np.where(y < 0, p.argmax(-1), y)
    sure = np.flatnonzero((y >= 0) | (p.max(-1) > confidence))
    rows = np.resize(sure, len(y))
    return run.fit(model, x[rows], labels[rows], epochs=run.epochs / 2)


def naive_bayes(run, epsilon):
    """A classifier of the pixels in closed form."""
    x, y = run.data.train
    kernel, bias = kr.analysis.naive_bayes_head(x[:LABELLED], y[:LABELLED], CLASSES, epsilon)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(CLASSES)])
    model.set_weights([kernel, bias])
    return model


METHODS = [
    *keras_methods(learning_rate=3e-3),
    Method(None, pseudo_labels, grid(confidence=(0.0, 0.8, 0.95, 0.99)), "pseudo-labels"),
    wrapped(
        "VAT",
        grid(epsilon=(0.25, 0.5, 1.0, 2.0)),
        3,
    ),
    wrapped(
        "VAT",
        grid(epsilon=(0.5, 1.0, 0.5, 1.0), entropy_factor=(0.3, 0.3, 1.0, 1.0)),
        3,
        "models.VAT, entropy",
    ),
    Method(
        "models.SAM",
        lambda run, rho, epsilon: of_all(
            run, kr.models.SAM(kr.models.VAT(mlp(), epsilon=epsilon), rho=rho)
        ),
        grid(rho=(0.05, 0.1, 0.05, 0.1), epsilon=(0.5, 0.5, 1.0, 1.0)),
        "models.SAM, around VAT",
        6,
    ),
    Method(
        "losses.conditional_entropy",
        lambda run, factor: of_all(
            run, kr.models.VAT(mlp(), epsilon=0.0, factor=0.0, entropy_factor=factor)
        ),
        grid(factor=(0.1, 0.3, 1.0, 3.0)),
        passes=2,
    ),
    wrapped(
        "RobustSelfSupervised",
        grid(gamma_unlabeled=(1.0, 3.0, 10.0, 30.0), gamma=(1.0, 3.0, 10.0, 30.0)),
        6,
        factor=0.3,
        steps=5,
    ),
    wrapped(
        "RobustSelfSupervised",
        grid(factor=(0.1, 0.3, 1.0, 3.0)),
        1,
        "models.RobustSelfSupervised, not robust",
        robust=False,
    ),
    Method(
        "models.RDrop",
        lambda run, rate, alpha: run.train(kr.models.RDrop(mlp(dropout=rate), alpha=alpha)),
        grid(rate=(0.25, 0.25, 0.5, 0.5), alpha=(1.0, 3.0, 1.0, 3.0)),
        passes=2,
    ),
    Method(
        "models.Ensemble",
        lambda run, members: kr.models.Ensemble([run.train(mlp()) for _ in range(members)]),
        [{"members": 4}],
        passes=4,
    ),
    Method(
        "analysis.naive_bayes_head",
        naive_bayes,
        grid(epsilon=(0.001, 0.01, 0.1, 1.0)),
        passes=0,
    ),
]

PAGE = """
{best}

{table}

{picture}

{protocol}
"""

TASK = Task(
    title="few labels",
    data=data,
    measure=measure,
    measures={"accuracy": Measure("accuracy, %")},
    methods=METHODS,
    optimizer=adam,
    epochs=30,
    batch_size=50,
    page=PAGE,
)
