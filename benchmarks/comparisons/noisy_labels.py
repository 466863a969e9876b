"""Noisy labels: 40 % of the training labels are wrong."""

import dataclasses

import keras
import numpy as np
from keras import ops

import keras_regularize as kr
from benchmarks.comparisons._comparison import Measure, Method, Task, grid
from benchmarks.comparisons._digits import CLASSES, accuracy, digits, keras_methods, mlp, scores

WRONG = 0.4
TRAINING = 800


def data(generator):
    clean = digits(generator, TRAINING, 300)

    def noisy(part):
        x, y = part
        wrong = generator.random(len(y)) < WRONG
        return x, np.where(wrong, (y + generator.integers(1, CLASSES, len(y))) % CLASSES, y)

    train, validation = noisy(clean.train), noisy(clean.validation)
    more = {"wrong": train[1] != clean.train[1]}
    return dataclasses.replace(clean, train=train, validation=validation, more=more)


def measure(model, data, part):
    x, y = data.train
    wrong = data.more["wrong"]
    learned = np.argmax(scores(model, x), axis=-1) == y
    return {
        "accuracy": accuracy(model, *getattr(data, part)),
        "memorized": np.mean(learned[wrong]),
    }


def adam():
    return keras.optimizers.Adam(3e-3)


def generalized(q):
    """Keras' generalized cross-entropy, which takes probabilities."""
    loss = keras.losses.CategoricalGeneralizedCrossEntropy(q=q)
    return lambda y, z: loss(y, ops.softmax(z))


def elr(run, **setting):
    model = kr.models.ELR(mlp(), TRAINING, CLASSES, **setting)
    return run.train(model, y=kr.utils.with_index(run.y))


def elr_plus(run, **setting):
    steps = TRAINING // run.task.batch_size
    model = kr.models.ELRPlus(
        mlp(), mlp(), TRAINING, CLASSES, ema_warmup_steps=20 * steps, **setting
    )
    return run.train(model, y=kr.utils.with_index(run.y))


def co_teaching(run, forget_rate):
    rising = keras.optimizers.schedules.PolynomialDecay(
        0.0, 5 * TRAINING // run.task.batch_size, end_learning_rate=forget_rate
    )
    return run.train(kr.models.CoTeaching(mlp(), mlp(), rising))


METHODS = [
    *keras_methods(learning_rate=3e-3, decays=(0.3, 1.0, 3.0, 10.0)),
    Method(
        None,
        lambda run, q: run.train(mlp(), generalized(q)),
        grid(q=(0.3, 0.5, 0.7, 0.9)),
        "generalized cross-entropy",
    ),
    Method(
        "losses.SymmetricCrossentropy",
        lambda run, **s: run.train(mlp(), kr.losses.SymmetricCrossentropy(**s, from_logits=True)),
        grid(alpha=(0.003, 0.01, 0.03, 0.1), beta=(1.0, 1.0, 1.0, 1.0)),
    ),
    Method(
        "losses.BiTempered",
        lambda run, **s: run.train(mlp(), kr.losses.BiTempered(**s)),
        grid(t1=(0.8, 0.5, 0.2, 0.2), t2=(1.2, 1.4, 1.4, 2.0)),
    ),
    Method(
        "losses.CompSum",
        lambda run, **s: run.train(mlp(), kr.losses.CompSum(**s)),
        grid(tau=(1.5, 1.7, 1.9, 2.0)),
    ),
    Method(
        "layers.NestedDropout",
        lambda run, **s: run.train(mlp(before_last=[kr.layers.NestedDropout(**s)])),
        grid(stddev=(5.0, 10.0, 20.0, 40.0)),
    ),
    Method("models.ELR", elr, grid(factor=(1.0, 3.0, 7.0, 3.0), momentum=(0.7, 0.7, 0.7, 0.9))),
    Method(
        "models.ELRPlus",
        elr_plus,
        grid(factor=(1.0, 3.0, 7.0, 3.0), momentum=(0.7, 0.7, 0.7, 0.9)),
        passes=2,
    ),
    Method("models.CoTeaching", co_teaching, grid(forget_rate=(0.3, 0.4, 0.5, 0.6)), passes=2),
    Method(
        "models.SAM",
        lambda run, **s: run.train(kr.models.SAM(mlp(), **s)),
        grid(rho=(0.1, 0.2, 0.4, 0.8)),
        passes=2,
    ),
]

PAGE = """
**Use `kr.models.ELR`**: {rows[models.ELR].accuracy} % against {rows[plain].accuracy} % of plain training, for
one pass a step and a row of memory for every sample. If nothing but the loss can change,
`kr.losses.SymmetricCrossentropy` ({rows[losses.SymmetricCrossentropy].accuracy} %) is the best of those; if
nothing but what Keras has, use dropout ({rows[dropout].accuracy} %) or stop early
({rows[early stopping].accuracy} %).

{table}

{picture}

## What was compared

Of eight hundred digits, two of five have a wrong label, any other class as likely as the next, and a network
that can learn all of them by heart. *Memorized* is the share of the wrong labels that it gives back at the end.
The validation labels are wrong as often as the training labels: nobody is assumed to have clean ones, and to
choose by accuracy on noisy labels is enough where they are wrong evenly.

## What to use

- **`kr.models.ELR`** if samples can be told apart: labels go through `kr.utils.with_index`. `kr.models.ELRPlus`
  ({rows[models.ELRPlus].accuracy} %) costs two networks and gains nothing here.
- **`kr.losses.SymmetricCrossentropy`** if the training must stay as it is. It is ahead of Keras' generalized
  cross-entropy ({rows[generalized cross-entropy].accuracy} %), and `kr.losses.BiTempered`
  ({rows[losses.BiTempered].accuracy} %) is behind both. `kr.losses.CompSum` was chosen with
  {rows[losses.CompSum].setting}, where it is the mean absolute error: that trains well with some seeds and
  badly with others, hence {rows[losses.CompSum].accuracy} %. Stay below 2.
- **`kr.models.SAM`** ({rows[models.SAM].accuracy} %) and **`kr.models.CoTeaching`**
  ({rows[models.CoTeaching].accuracy} %) if two passes a step can be paid for. SAM wants a radius far above its
  default here, {rows[models.SAM].setting}, the largest that was tried; `CoTeaching` wants to know about how
  many labels are wrong.
- Of what Keras has, **dropout**, **early stopping** and **weight decay** ({rows[weight decay].accuracy} %) do
  most of the work, and early stopping saves time. Label smoothing ({rows[label smoothing].accuracy} %) hardly
  helps.
- `kr.layers.NestedDropout` ({rows[layers.NestedDropout].accuracy} %) memorizes little and learns little.

## Limits

Labels that are wrong at random, in one small data set. Wrong labels in practice depend on the sample: what
looks alike is confused, and then accuracy on noisy labels is no longer a safe guide. `kr.losses.ZErrorMSE` is
for regression and `kr.losses.ZErrorBCE` for two classes; they are not in the table.

{protocol}
"""

TASK = Task(
    title="noisy labels",
    data=data,
    measure=measure,
    measures={
        "accuracy": Measure("accuracy, %"),
        "memorized": Measure("memorized, %", more_is_better=False),
    },
    claims=[
        ("models.ELR", "models.CoTeaching", "accuracy"),
        ("models.ELR", "models.SAM", "accuracy"),
        ("models.ELR", "losses.SymmetricCrossentropy", "accuracy"),
        ("models.SAM", "dropout", "accuracy"),
        ("models.CoTeaching", "dropout", "accuracy"),
        ("losses.SymmetricCrossentropy", "generalized cross-entropy", "accuracy"),
        ("losses.SymmetricCrossentropy", "losses.BiTempered", "accuracy"),
        ("generalized cross-entropy", "losses.BiTempered", "accuracy"),
        ("dropout", "plain", "accuracy"),
        ("early stopping", "plain", "accuracy"),
        ("weight decay", "plain", "accuracy"),
        ("label smoothing", "plain", "accuracy"),
        ("weight decay", "label smoothing", "accuracy"),
        ("dropout", "layers.NestedDropout", "accuracy"),
        ("layers.NestedDropout", "plain", "memorized"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=40,
    batch_size=50,
    page=PAGE,
)
