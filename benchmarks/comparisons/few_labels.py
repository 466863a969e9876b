"""Few labels: a thousand digits of which fifty have a label."""

import keras
import numpy as np
from keras import ops

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import CLASSES, accuracy, digits, keras_methods, mlp, scores

TRAINING = 1000
LABELLED = 50
#: Of a labelled image among all images.
COPIES = 5


def data(generator):
    """`train` are the labelled images, so often that an epoch has as many steps; `all` has -1 for no label."""
    drawn = digits(generator, TRAINING, 100)
    x, y = drawn.train
    y_all = np.where(np.arange(TRAINING) < LABELLED, y, -1)
    # Several times each, or a batch drawn from all images would have hardly any label.
    rows = np.concatenate(
        [np.resize(np.arange(LABELLED), COPIES * LABELLED), np.arange(LABELLED, TRAINING)]
    )
    same = np.resize(np.arange(LABELLED), len(rows))
    more = {"all": (x[rows], y_all[rows])}
    return Data((x[same], y[same]), drawn.validation, drawn.test, more)


def measure(model, data, part):
    return {"accuracy": accuracy(model, *getattr(data, part))}


def adam():
    return keras.optimizers.Adam(3e-3)


def of_all(run, model, loss=None):
    x, y = run.data.more["all"]
    return run.train(model, loss, x=x, y=y)


def with_entropy(factor):
    """Cross-entropy of what has a label, and the entropy of all predictions."""

    def loss(y, z):
        y = ops.reshape(ops.cast(y, "int32"), (-1,))
        labelled = ops.cast(y >= 0, z.dtype)
        losses = ops.sparse_categorical_crossentropy(ops.maximum(y, 0), z, from_logits=True)
        supervised = ops.sum(labelled * losses) / ops.maximum(ops.sum(labelled), 1)
        return supervised + factor * ops.mean(kr.losses.conditional_entropy(z))

    return loss


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
    p = ops.convert_to_numpy(ops.softmax(scores(model, x)))
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
        lambda run, factor: of_all(run, mlp(), with_entropy(factor)),
        grid(factor=(0.1, 0.3, 1.0, 3.0)),
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
**Use `kr.models.VAT`**, and give it the images without labels: {rows[models.VAT].accuracy} % against
{rows[plain].accuracy} % of training on the fifty labels alone, for three passes a step.
`kr.models.RobustSelfSupervised` is as good ({rows[models.RobustSelfSupervised].accuracy} %) for six passes. If
only what Keras has will do, let the network label the rest itself and train on: {rows[pseudo-labels].accuracy} %.

{table}

{picture}

## What was compared

A thousand digits, fifty of which have a label. Methods that use the others train on all of them, with the label
-1 where there is none and each labelled image five times, so that a batch has some of those. The others train on
the fifty for as many steps.

## What to use

- **`kr.models.VAT`**. Its radius `epsilon` is the one thing to choose, here {rows[models.VAT].setting}. Neither
  minimizing the entropy as well ({rows[models.VAT, entropy].accuracy} %) nor `kr.models.SAM` around it
  ({rows[models.SAM, around VAT].accuracy} %) improves on it by more than chance.
- **`kr.models.RobustSelfSupervised`** is self-training that looks for the worst neighbour of every image. The
  neighbours are what helps: self-training alone, `robust=False`, has
  {rows[models.RobustSelfSupervised, not robust].accuracy} %.
- **Pseudo-labels**, ten lines of Keras, gain a little for no further pass. They train on labels first and on
  confident predictions then, which is better than to believe all predictions from the first step on.
- `kr.losses.conditional_entropy` alone ({rows[losses.conditional_entropy].accuracy} %) makes the network sure of
  what it thinks, right or wrong: some seeds gain much and others lose as much. Add it to `VAT`, not in its place.
- Methods that see labelled images alone cannot make up for the rest. `kr.models.Ensemble` gains one point;
  `kr.models.RDrop` is better than dropout alone, but not than plain training; dropout, label smoothing and early
  stopping change nothing that eight seeds show, and weight decay costs a point.
- `kr.analysis.naive_bayes_head` needs no training at all and has {rows[analysis.naive_bayes_head].accuracy} %.

## Limits

Settings were chosen on a hundred labelled images, twice as many as there are to train on: with fifty labels in
all, expect to take settings from elsewhere. The images without labels are of the same ten classes, as often, and
of the same kind; where they are not, these methods may harm. Differences between the four best are within
chance: eight seeds, each with other fifty labels, are far apart.

{protocol}
"""

TASK = Task(
    title="few labels",
    data=data,
    measure=measure,
    measures={"accuracy": Measure("accuracy, %")},
    claims=[
        *(
            (better, worse, "accuracy")
            for better in ("models.VAT", "models.RobustSelfSupervised")
            for worse in ("pseudo-labels", "plain", "models.RobustSelfSupervised, not robust")
        ),
        ("models.VAT", "losses.conditional_entropy", "accuracy"),
        ("pseudo-labels", "plain", "accuracy"),
        ("pseudo-labels", "models.RobustSelfSupervised, not robust", "accuracy"),
        ("models.Ensemble", "plain", "accuracy"),
        ("models.RDrop", "dropout", "accuracy"),
        ("plain", "weight decay", "accuracy"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=30,
    batch_size=50,
    page=PAGE,
)
