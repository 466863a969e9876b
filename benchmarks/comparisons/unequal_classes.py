"""Unequal classes: the rarest of ten has three training images, the most frequent one a hundred."""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_regularize as kr
from benchmarks.comparisons._comparison import Data, Measure, Method, Task, grid
from benchmarks.comparisons._digits import CLASSES, focal, keras_methods, mlp, scores

COUNTS = np.round(100 * (3 / 100) ** (np.arange(CLASSES) / 9)).astype(int)
VALIDATION = 300


def data(generator):
    """Class 0 is the most frequent one; which digit that is changes. Validation and test have equal shares."""
    x, y = load_digits(return_X_y=True)
    y = generator.permutation(CLASSES)[y]
    order = generator.permutation(len(y))
    x, y = (x[order] / 16).astype("float32"), y[order]
    chosen = np.concatenate([np.flatnonzero(y == k)[:n] for k, n in enumerate(COUNTS)])
    rest = generator.permutation(np.setdiff1d(np.arange(len(y)), chosen))
    parts = chosen, rest[:VALIDATION], rest[VALIDATION:]
    return Data(*((x[part], y[part]) for part in parts))


def measure(model, data, part):
    x, y = getattr(data, part)
    predicted = np.argmax(scores(model, x), axis=-1)
    recalls = np.array([np.mean(predicted[y == k] == k) for k in range(CLASSES)])
    return {"balanced": recalls.mean(), "rare": recalls[-3:].mean(), "frequent": recalls[:3].mean()}


def adam():
    return keras.optimizers.Adam(3e-3)


def inverse(power):
    """Class weights of mean 1 by the counts."""
    weights = (1.0 * COUNTS) ** -power
    return dict(enumerate(weights / weights.mean()))


def resampled(run, power):
    """As many images as there are, drawn by class: plain shares at power 0, equal ones at 1."""
    share = (1.0 * COUNTS) ** -power
    p = share[run.y] / share[run.y].sum()
    # Half of all steps in one long epoch, so that many different draws are seen.
    rows = np.random.default_rng(run.seed).choice(len(run.y), len(run.y) * run.epochs // 2, p=p)
    return run.train(mlp(), x=run.x[rows], y=run.y[rows], epochs=2)


def normalised():
    """Cosines for logits, as `LDAM` wants them."""
    unit = keras.constraints.UnitNorm(axis=0)
    return keras.Sequential(
        [
            mlp().layers[0],
            layers.Dense(128, activation="relu"),
            layers.UnitNormalization(),
            layers.Dense(CLASSES, use_bias=False, kernel_constraint=unit),
        ]
    )


def ldam_then_weights(run, **setting):
    model = run.train(normalised(), kr.losses.LDAM(COUNTS, **setting), epochs=0.8 * run.epochs)
    weights = dict(enumerate(kr.losses.class_balanced_weights(COUNTS, beta=0.999)))
    return run.fit(model, epochs=0.2 * run.epochs, class_weight=weights)


def collapse(loss):
    def train(run, within_factor):
        image, labels = keras.Input((64,)), keras.Input((), dtype="int32", optional=True)
        features = image
        for _ in range(2):
            features = layers.Dense(128, activation="relu")(features)
        drawn = kr.layers.NeuralCollapse(CLASSES, within_factor)([features, labels])
        model = keras.Model([image, labels], layers.Dense(CLASSES)(drawn))
        return run.train(kr.models.WithLabels(model), loss and loss(COUNTS))

    return train


def group_dro(run, **setting):
    model = kr.models.GroupDRO(mlp(), CLASSES, **setting)
    return run.train(model, y={"label": run.y, "group": run.y})


METHODS = [
    *keras_methods(learning_rate=3e-3),
    Method(
        None,
        lambda run, power: run.train(mlp(), class_weight=inverse(power)),
        grid(power=(0.25, 0.5, 0.75, 1.0)),
        "class weights",
    ),
    Method(None, resampled, grid(power=(0.25, 0.5, 0.75, 1.0)), "resampling"),
    Method(
        None,
        lambda run, gamma: run.train(mlp(), focal(gamma)),
        grid(gamma=(0.5, 1.0, 2.0, 3.0)),
        "focal loss",
    ),
    Method(
        "losses.class_balanced_weights",
        lambda run, beta: run.train(
            mlp(),
            class_weight=dict(enumerate(kr.losses.class_balanced_weights(COUNTS, beta))),
        ),
        grid(beta=(0.9, 0.99, 0.999, 0.9999)),
    ),
    Method(
        "losses.LogitAdjusted",
        lambda run, tau: run.train(mlp(), kr.losses.LogitAdjusted(COUNTS, tau)),
        grid(tau=(0.5, 1.0, 1.5, 2.0)),
    ),
    Method(
        "losses.Seesaw",
        lambda run, **s: run.train(mlp(), kr.losses.Seesaw(COUNTS, **s)),
        grid(p=(0.4, 0.8, 1.2, 0.8), q=(2.0, 2.0, 2.0, 0.0)),
    ),
    Method(
        "losses.LDAM",
        lambda run, **s: run.train(normalised(), kr.losses.LDAM(COUNTS, **s)),
        grid(max_margin=(0.3, 0.5, 0.3, 0.5), scale=(10.0, 10.0, 30.0, 30.0)),
    ),
    Method(
        "losses.LDAM",
        ldam_then_weights,
        grid(max_margin=(0.3, 0.5, 0.3, 0.5), scale=(10.0, 10.0, 30.0, 30.0)),
        "losses.LDAM, then weights",
    ),
    Method(
        "losses.PolyLoss",
        lambda run, epsilon: run.train(mlp(), kr.losses.PolyLoss(epsilon, from_logits=True)),
        grid(epsilon=(-1.0, 1.0, 2.0, 4.0)),
    ),
    Method("layers.NeuralCollapse", collapse(None), grid(within_factor=(0.003, 0.01, 0.03, 0.1))),
    Method(
        "layers.NeuralCollapse",
        collapse(kr.losses.LogitAdjusted),
        grid(within_factor=(0.003, 0.01, 0.03, 0.1)),
        "layers.NeuralCollapse, LogitAdjusted",
    ),
    Method("models.GroupDRO", group_dro, grid(step_size=(0.003, 0.01, 0.03, 0.1))),
]

PAGE = """
**Begin with `kr.losses.LogitAdjusted`**: it needs the counts of the classes and nothing else, costs no more
than cross-entropy, and brings the balanced accuracy from {rows[plain].balanced} % to
{rows[losses.LogitAdjusted].balanced} %, far more than class weights ({rows[class weights].balanced} %). With
`kr.layers.NeuralCollapse` before the last layer it gets a little further, to
{rows[layers.NeuralCollapse, LogitAdjusted].balanced} %, the best of this table.

{table}

{picture}

## What was compared

Ten digits, the most frequent one with a hundred training images, the rarest with three. Which digit gets which
place is drawn anew for every seed. Validation and test images have equal shares, nearly, and what counts is the
mean of the recalls of the classes.

## What to use

- **`kr.losses.LogitAdjusted`**: the setting that was chosen, {rows[losses.LogitAdjusted].setting}, is the
  default, so there is nothing to tune. The recall of the three rarest classes rises from {rows[plain].rare} %
  to {rows[losses.LogitAdjusted].rare} %; the three most frequent ones pay for it, from {rows[plain].frequent} %
  to {rows[losses.LogitAdjusted].frequent} %.
- **`kr.layers.NeuralCollapse` in addition**, when features may be shaped too. Alone it does not help here: its
  difference from plain training is within the error.
- **`kr.losses.LDAM`** when frequent classes must not lose: it finds {rows[losses.LDAM].rare} % of the three
  rarest and loses nothing on the others. Class-balanced weights in the last fifth of the training, which its
  authors add, change nothing here.
- `kr.losses.class_balanced_weights`, `kr.losses.Seesaw`, `kr.models.GroupDRO` with the classes as groups, and
  resampling come to about the same, {rows[losses.Seesaw].balanced} % to
  {rows[losses.class_balanced_weights].balanced} %. So does Keras' label smoothing
  ({rows[label smoothing].balanced} %), which knows nothing of the counts. `Seesaw` was best without its second
  part, `q=0`. What sets class-balanced weights apart from class weights is the setting that the search found,
  not the formula: at a `beta` of 0.9999 they are nearly inverse frequencies.
- Do not expect anything from a focal loss, `kr.losses.PolyLoss`, dropout or weight decay here: they are where
  plain training is.

## Limits

One data set, one network, counts that differ by a factor of about thirty. Where the classes are as unequal in
use as in training and plain accuracy is what counts, use cross-entropy. `kr.losses.AnyLoss` is for two classes
and is not in the table; the guide on rare classes shows it.

{protocol}
"""

TASK = Task(
    title="unequal classes",
    data=data,
    measure=measure,
    measures={
        "balanced": Measure("balanced accuracy, %"),
        "rare": Measure("recall of three rarest, %"),
        "frequent": Measure("recall of three most frequent, %"),
    },
    claims=[
        *(
            (better, "plain", "balanced")
            for better in (
                "losses.LogitAdjusted",
                "losses.LDAM",
                "losses.class_balanced_weights",
                "losses.Seesaw",
                "models.GroupDRO",
                "class weights",
                "resampling",
                "label smoothing",
            )
        ),
        ("losses.LogitAdjusted", "class weights", "balanced"),
        ("losses.LogitAdjusted", "losses.LDAM", "balanced"),
        ("losses.LogitAdjusted", "losses.class_balanced_weights", "balanced"),
        ("losses.LogitAdjusted", "label smoothing", "balanced"),
        ("layers.NeuralCollapse, LogitAdjusted", "losses.LogitAdjusted", "balanced"),
        ("losses.LogitAdjusted", "plain", "rare"),
        ("plain", "losses.LogitAdjusted", "frequent"),
        ("losses.LDAM", "plain", "rare"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=40,
    batch_size=50,
    page=PAGE,
)
