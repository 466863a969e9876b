"""Group shift: a shortcut that is right in training, and no longer in the test."""

import functools

import keras
import numpy as np
from keras import layers

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import keras_methods, mlp, scores

TRAINING = 800
AGREEMENT = 0.95
NOISE_FEATURES = 10

network = functools.partial(mlp, inputs=2 + NOISE_FEATURES, units=64, classes=2)
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def draw(generator, size, agreement):
    """A core feature that is hard to see, a shortcut that is easy to, noise; the label, and the group of both."""
    label = generator.integers(0, 2, size)
    shortcut = np.where(generator.random(size) < agreement, label, 1 - label)
    features = [
        0.8 * (2 * label - 1) + generator.normal(size=size),
        2.0 * (2 * shortcut - 1) + 0.6 * generator.normal(size=size),
        *generator.normal(size=(NOISE_FEATURES, size)),
    ]
    return (np.stack(features, axis=1).astype("float32"), label), 2 * label + shortcut


def data(generator):
    """In the test data the shortcut is right half of the time. Validation data are as the training data are."""
    sizes = {
        "train": (TRAINING, AGREEMENT),
        "validation": (TRAINING, AGREEMENT),
        "test": (2000, 0.5),
    }
    drawn = {part: draw(generator, *size) for part, size in sizes.items()}
    groups = {part: group for part, (_, group) in drawn.items()}
    return Data(*(found for found, _ in drawn.values()), groups)


def measure(model, data, part):
    x, y = getattr(data, part)
    right = np.argmax(scores(model, x), axis=-1) == y
    groups = [np.mean(right[data.more[part] == group]) for group in range(4)]
    return {"worst": min(groups), "mean": np.mean(groups)}


def adam():
    return keras.optimizers.Adam(3e-3)


def decayed(decay):
    return keras.optimizers.AdamW(3e-3, weight_decay=decay)


def group_weights(run, power, decay=0.0):
    group = run.data.more["train"]
    weights = (1.0 * np.bincount(group, minlength=4)) ** -power
    weights = weights[group] / weights[group].mean()
    return run.train(network(), optimizer=decayed(decay), sample_weight=weights)


def group_dro(run, step_size, decay=0.0):
    labels = {"label": run.y, "group": run.data.more["train"]}
    model = kr.models.GroupDRO(network(), 4, step_size)
    return run.train(model, optimizer=decayed(decay), y=labels)


def prospect(run, **setting):
    model = kr.models.Prospect(network(), TRAINING, **setting, gradient_table=False)
    return run.train(model, y=kr.utils.with_index(run.y))


def rationale(run, **setting):
    x, labels = keras.Input((2 + NOISE_FEATURES,)), keras.Input((), dtype="int32", optional=True)
    features = x
    for _ in range(2):
        features = layers.Dense(64, activation="relu")(features)
    logits = kr.layers.RationaleDense(2, **setting)([features, labels])
    return run.train(kr.models.WithLabels(keras.Model([x, labels], logits)))


def functional_entropy(run, factor):
    """The core feature, the shortcut and the noise as inputs of their own."""
    edges = [1, 2]
    parts = [keras.Input((n,)) for n in (1, 1, NOISE_FEATURES)]
    net = network()
    joined = keras.Model(parts, net(layers.Concatenate()(parts)))
    run.train(
        kr.models.FunctionalEntropyRegularization(joined, factor),
        x=np.split(run.x, edges, axis=1),
        optimizer=keras.optimizers.Adam(3e-3, global_clipnorm=1.0),
    )
    return net


def loss(key, settings, make):
    return Method(f"losses.{key}", lambda run, **s: run.train(network(), make(**s)), settings)


METHODS = [
    *keras_methods(network, learning_rate=3e-3),
    Method(None, group_weights, grid(power=(0.25, 0.5, 0.75, 1.0)), "group weights"),
    Method(
        None,
        group_weights,
        grid(power=(0.75, 1.0, 0.75, 1.0), decay=(10.0, 10.0, 30.0, 30.0)),
        "group weights and decay",
    ),
    Method("models.GroupDRO", group_dro, grid(step_size=(0.01, 0.03, 0.1, 0.3))),
    Method(
        "models.GroupDRO",
        group_dro,
        grid(step_size=(0.03, 0.1, 0.03, 0.1), decay=(10.0, 10.0, 30.0, 30.0)),
        "models.GroupDRO, weight decay",
    ),
    loss(
        "CVaR",
        grid(tail=(0.05, 0.1, 0.3, 0.5)),
        lambda tail: kr.losses.CVaR(crossentropy, tail),
    ),
    loss(
        "SpectralRisk",
        grid(parameter=(2.0, 4.0, 2.0, 4.0), shift_cost=(0.1, 0.1, 1.0, 1.0)),
        lambda **s: kr.losses.SpectralRisk(crossentropy, "extremile", **s),
    ),
    loss(
        "SpectralDecoupling",
        grid(factor=(0.003, 0.01, 0.03, 0.1)),
        kr.losses.SpectralDecoupling,
    ),
    Method(
        "models.Prospect",
        prospect,
        grid(parameter=(0.1, 0.3, 0.5, 0.5), shift_cost=(1.0, 1.0, 1.0, 0.1)),
    ),
    Method(
        "layers.RationaleDense",
        rationale,
        grid(factor=(0.01, 0.03, 0.1, 0.3), momentum=(0.1, 0.1, 0.1, 0.1)),
    ),
    Method(
        "models.FunctionalEntropyRegularization",
        functional_entropy,
        grid(factor=(0.001, 0.003, 0.01, 0.03)),
        passes=10,
    ),
]

PAGE = """
**Write the groups down, weight them, and decay the weights strongly.** With both, Keras' own `sample_weight` by
the size of the group has an accuracy of {rows[group weights and decay].worst} % in the worst group and
`kr.models.GroupDRO` {rows[models.GroupDRO, weight decay].worst} %, which is the same within the error; plain
training has {rows[plain].worst} %. Nothing that does without the groups helped here.

{table}

{picture}

## What was compared

Two features and noise: one that carries the label, and a shortcut that is easier to see and agrees with the
label in 95 % of the training samples, but only in half of the test samples. The four combinations of label and
shortcut are the groups. Validation data are like the training data, with few samples in the rare groups, and
settings are chosen by the worst group there.

## What to use

- **Group weights with strong weight decay** first: an argument of `fit` and one of the optimizer. Each alone
  does less: weights without decay {rows[group weights].worst} %, and decay without weights leaves the worst
  group at {rows[weight decay].worst} %.
- **`kr.models.GroupDRO` with strong weight decay** is as good, and without decay too it is where weights
  without decay are. It finds the weights of the groups from their losses, so take it where size alone does not
  say which group is hard.
- **Without groups** nothing beats plain training. `kr.losses.SpectralRisk`, `kr.models.Prospect` and
  `kr.layers.RationaleDense` are about where it is. `kr.losses.CVaR` ({rows[losses.CVaR].worst} %) does harm: the
  classes overlap, so the samples of large loss are the noisy ones as much as the neglected ones.
- `kr.losses.SpectralDecoupling` ({rows[losses.SpectralDecoupling].worst} %) was made for shortcuts and does
  harm here as well, at the smallest factor that was tried.
- Label smoothing ({rows[label smoothing].worst} %) and early stopping ({rows[early stopping].worst} %) are
  worse than plain training too.
- `kr.models.FunctionalEntropyRegularization` was given the core feature, the shortcut and the noise as inputs
  of their own, and gains nothing.

## Limits

One synthetic problem of few samples, in which a linear rule would do. `Prospect` was run without its table of
gradients; its time is that of a solver on the host, which matters less beside a large network. Domain
generalization with pretrained features, for which `RationaleDense` is meant, is another matter.

{protocol}
"""

TASK = Task(
    title="group shift",
    data=data,
    measure=measure,
    measures={"worst": Measure("worst-group accuracy, %"), "mean": Measure("mean accuracy, %")},
    claims=[
        ("group weights and decay", "group weights", "worst"),
        ("group weights and decay", "weight decay", "worst"),
        ("models.GroupDRO, weight decay", "models.GroupDRO", "worst"),
        ("models.GroupDRO", "plain", "worst"),
        ("group weights", "plain", "worst"),
        ("plain", "losses.CVaR", "worst"),
        ("plain", "losses.SpectralDecoupling", "worst"),
        ("plain", "label smoothing", "worst"),
        ("plain", "early stopping", "worst"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=20,
    batch_size=100,
    page=PAGE,
)
