"""Continual learning: digits, and then the same digits with their pixels in another order."""

import keras
import numpy as np

import keras_regularize as kr
from benchmarks.comparisons._comparison import PLAIN, Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import accuracy, digits, mlp

KEPT = 20


def data(generator):
    """`train` is the second task; `old` is the first one."""
    drawn = digits(generator, 500, 300)
    pixels = generator.permutation(64)

    def permuted(part):
        x, y = part
        return x[:, pixels], y

    return Data(
        permuted(drawn.train),
        permuted(drawn.validation),
        permuted(drawn.test),
        {"train": drawn.train, "validation": drawn.validation, "test": drawn.test},
    )


def measure(model, data, part):
    old, new = accuracy(model, *data.more[part]), accuracy(model, *getattr(data, part))
    return {"mean": (old + new) / 2, "old": old, "new": new}


def adam():
    return keras.optimizers.Adam(1e-3)


def first(run, net=None):
    """A network that has learned the first task."""
    x, y = run.data.more["train"]
    return run.train(net or mlp(), x=x, y=y)


def replay(run, share):
    """Some images of the first task stay, and make up a share of what the second one trains on."""
    net = first(run)
    old_x, old_y = run.data.more["train"]
    count = round(share * len(run.y))
    kept = np.resize(np.arange(KEPT), count)
    return run.fit(
        net,
        np.concatenate([old_x[kept], run.x[count:]]),
        np.concatenate([old_y[kept], run.y[count:]]),
    )


def frozen(run, layers, learning_rate):
    net = first(run)
    for layer in net.layers[:layers]:
        layer.trainable = False
    return run.train(net, optimizer=keras.optimizers.Adam(learning_rate))


def slower(run, learning_rate):
    return run.train(first(run), optimizer=keras.optimizers.Adam(learning_rate))


def fisher(run, net):
    x, y = run.data.more["train"]
    found = kr.analysis.fisher_diagonal(net, x[:200], seed=run.seed)
    return dict(zip((v.path for v in net.trainable_variables), found))


def attached(run, regularizer, rate=0.0):
    """Trains the second task with a regularizer that is made for each variable."""
    net = first(run, mlp(dropout=rate))
    make = regularizer(net)
    for where in ("kernel", "bias"):
        kr.regularizers.attach(net, make, where=where)
    return run.train(net)


def ewc(run, factor, rate=0.0):
    def of(net):
        importance = fisher(run, net)
        return lambda v: kr.regularizers.EWC(v.value, importance[v.path], factor)

    return attached(run, of, rate)


def anchored(key):
    make = getattr(kr.regularizers, key)

    def train(run, factor):
        return attached(run, lambda net: lambda v: make(v.value, factor=factor))

    return train


def penalized(run, factor):
    """Elastic weight consolidation by `WeightPenalty`, whose anchors are among its weights."""
    net = first(run)
    importance = kr.analysis.fisher_diagonal(net, run.data.more["train"][0][:200], seed=run.seed)
    model = kr.models.WeightPenalty(
        net, keras.regularizers.L2(0.5), factor, where=None, anchors="weighted"
    )
    model.set_anchors(importance=importance)
    return run.train(model)


def distilled(run, alpha, temperature):
    """Learning without forgetting: the network before the second task is the teacher in it."""
    net = first(run)
    teacher = keras.models.clone_model(net)
    teacher.set_weights(net.get_weights())
    teacher.trainable = False
    return run.train(kr.models.Distillation(net, teacher, alpha, temperature))


IMPORTANT = (100.0, 300.0, 1000.0, 3000.0)
FACTORS = (1e-3, 1e-2, 1e-1, 1.0)

METHODS = [
    Method(None, lambda run: run.fit(first(run)), label=PLAIN),
    Method(
        None,
        lambda run, rate: run.fit(first(run, mlp(dropout=rate))),
        grid(rate=(0.25, 0.5, 0.7, 0.8)),
        "dropout",
    ),
    Method(None, slower, grid(learning_rate=(1e-4, 2e-4, 3e-4, 5e-4)), "lower learning rate"),
    Method(
        None,
        frozen,
        grid(layers=(1, 1, 2, 2), learning_rate=(3e-4, 1e-3, 1e-3, 3e-3)),
        "frozen layers",
    ),
    Method(None, replay, grid(share=(0.1, 0.2, 0.4, 0.6)), f"replay of {KEPT} images"),
    Method("regularizers.EWC", ewc, grid(factor=IMPORTANT)),
    Method(
        "regularizers.EWC",
        ewc,
        grid(factor=IMPORTANT, rate=(0.5, 0.5, 0.5, 0.5)),
        "regularizers.EWC, dropout",
    ),
    Method("models.WeightPenalty", penalized, grid(factor=IMPORTANT)),
    Method("regularizers.L2ToReference", anchored("L2ToReference"), grid(factor=FACTORS)),
    Method("regularizers.Wasserstein", anchored("Wasserstein"), grid(factor=FACTORS)),
    Method(
        "models.Distillation",
        distilled,
        grid(alpha=(0.25, 0.5, 0.75, 0.5), temperature=(3.0, 3.0, 3.0, 1.0)),
    ),
]

PAGE = """
**Use `kr.regularizers.EWC` if nothing of the first task can be kept** but what the network knows of it: it still
gets {rows[regularizers.EWC].old} % of the first task right, against {rows[plain].old} % after plain training, and
pays with the second, {rows[regularizers.EWC].new} % against {rows[plain].new} %. If a few images can be kept, mix
them in: twenty of them are as good in the mean ({rows[replay of 20 images].mean} % against
{rows[regularizers.EWC].mean} %) and leave the second task alone. Dropout in both tasks helps and costs little
({rows[dropout].mean} %).

{table}

{picture}

## What was compared

Five hundred digits to learn, and then the same ones with their pixels in another order, which for a dense network
is another task with the same ten answers. A network for both learns the first and then the second, and nothing
tells it which one an image is from. The accuracy of plain training on the second task is about what the network
can do on either one when it has nothing to keep. Settings were chosen by the mean accuracy on the validation data
of both.

## What to use

- **Replay**, three lines of Keras: with twenty old images repeated among the new ones
  ({rows[replay of 20 images].setting}), {rows[replay of 20 images].old} % of the first task stay.
- **`kr.regularizers.EWC`** keeps most of the first task, more than any other. Its factor, large here
  ({rows[regularizers.EWC].setting}), trades one task for the other. Dropout adds nothing to it
  ({rows[regularizers.EWC, dropout].mean} % in the mean).
  `kr.models.WeightPenalty` with `anchors="weighted"` is the same method and has the same numbers; its anchors
  are weights of the model instead of arrays in its configuration.
- **Dropout** makes the network forget less and costs the second task less than a point.
- `kr.regularizers.L2ToReference` holds every weight alike: it keeps {rows[regularizers.L2ToReference].old} % and
  learns {rows[regularizers.L2ToReference].new} %, so the importance of a weight, which `EWC` knows and it does
  not, is worth a lot. In the mean it is no more than a lower learning rate.
- `kr.models.Distillation` from the old network, on the second task's images, keeps some of the first task
  ({rows[models.Distillation].old} %), but in the mean no more than chance above plain training. Images whose
  pixels are in another order say little about what the old network knew.
- `kr.regularizers.Wasserstein` does not keep the first task, nor is it made to: weights may change places. It is
  for networks that can no longer learn after many tasks. Ten times the time here is for sorting.
- Freezing layers is worse than plain training: the second task needs other first layers.

## Limits

Two tasks and one small network, and to its first layer the two have nothing in common. Between tasks that look
alike, expect less to be forgotten, and more of distillation. After many tasks `EWC` has to add up what was
important for each.

{protocol}
"""

TASK = Task(
    title="learning one task after another",
    data=data,
    measure=measure,
    measures={
        "mean": Measure("mean accuracy, %"),
        "old": Measure("first task, %"),
        "new": Measure("second task, %"),
    },
    claims=[
        *(
            (better, worse, "mean")
            for better in ("regularizers.EWC", "replay of 20 images", "dropout")
            for worse in (
                "plain",
                "lower learning rate",
                "regularizers.L2ToReference",
                "models.Distillation",
            )
        ),
        ("regularizers.EWC", "dropout", "mean"),
        *(
            ("regularizers.EWC", worse, "old")
            for worse in ("replay of 20 images", "dropout", "regularizers.L2ToReference", "plain")
        ),
        ("regularizers.EWC", "regularizers.L2ToReference", "new"),
        *(
            (better, "regularizers.EWC", "new")
            for better in ("plain", "replay of 20 images", "dropout")
        ),
        ("plain", "dropout", "new"),
        ("models.Distillation", "plain", "old"),
        ("plain", "frozen layers", "mean"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=20,
    batch_size=50,
    page=PAGE,
)
