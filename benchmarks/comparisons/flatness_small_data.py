"""Flat minima and small data: twelve images of each digit, and no more."""

import functools

import keras
import numpy as np

import keras_regularize as kr
from benchmarks.comparisons._comparison import Measure, Method, Task, grid
from benchmarks.comparisons._digits import accuracy, digits, keras_methods, mlp, scores

TRAINING = 120
#: Length of the random step that flatness is measured by, relative to that of each kernel.
STEP = 1.0
DRAWS = 5

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
momentum = functools.partial(keras.optimizers.SGD, momentum=0.9)
sgd = functools.partial(momentum, 0.05)


def data(generator):
    return digits(generator, TRAINING, 200)


def rise(model, x, y):
    """How much the training loss rises when every kernel moves in a random direction."""
    weights, generator = model.get_weights(), np.random.default_rng(0)

    def moved(w):
        step = generator.normal(size=w.shape).astype(w.dtype)
        return w + STEP * np.linalg.norm(w) / np.linalg.norm(step) * step

    found = []
    for _ in range(DRAWS):
        model.set_weights([moved(w) if w.ndim > 1 else w for w in weights])
        found.append(float(crossentropy(y, scores(model, x))))
    model.set_weights(weights)
    return np.mean(found) - float(crossentropy(y, scores(model, x)))


def measure(model, data, part):
    return {"accuracy": accuracy(model, *getattr(data, part)), "rise": rise(model, *data.train)}


def wrapped(key, settings, passes=1.0):
    make = getattr(kr.models, key)
    return Method(
        f"models.{key}", lambda run, **s: run.train(make(mlp(), **s)), settings, passes=passes
    )


def exponential_average(run, decay):
    return run.train(mlp(), optimizer=sgd(use_ema=True, ema_momentum=decay))


def averaged(run, **setting):
    averaging = kr.callbacks.StochasticWeightAveraging(start=run.epochs // 2, **setting)
    return run.train(mlp(), callbacks=[averaging])


METHODS = [
    *keras_methods(learning_rate=0.05, decayed=momentum, decays=(0.003, 0.01, 0.03, 0.1)),
    Method(
        None,
        lambda run: run.train(mlp(), epochs=2 * run.epochs),
        label="plain, twice as long",
        passes=2,
    ),
    Method(None, exponential_average, grid(decay=(0.9, 0.95, 0.98, 0.99)), "average (EMA)"),
    wrapped("SAM", grid(rho=(0.05, 0.1, 0.2, 0.4)), 2),
    wrapped("ASAM", grid(rho=(0.5, 1.0, 2.0, 4.0)), 2),
    wrapped("GSAM", grid(rho=(0.1, 0.1, 0.2, 0.4), alpha=(0.1, 0.4, 0.4, 0.4)), 2),
    wrapped("FriendlySAM", grid(rho=(0.05, 0.1, 0.2, 0.4)), 2),
    wrapped("LookSAM", grid(rho=(0.05, 0.1, 0.2, 0.4)), 1.2),
    wrapped("MomentumSAM", grid(rho=(0.1, 0.3, 1.0, 3.0))),
    wrapped("AMP", grid(epsilon=(0.1, 0.3, 0.5, 1.0)), 2),
    wrapped("AWP", grid(gamma=(0.003, 0.01, 0.03, 0.1)), 2),
    wrapped("GradientRegularization", grid(factor=(0.01, 0.03, 0.1, 0.3)), 2),
    wrapped("Flooding", grid(level=(0.01, 0.03, 0.1, 0.2))),
    Method(
        "callbacks.StochasticWeightAveraging",
        averaged,
        grid(learning_rate=(None, 0.02, 0.1, 0.2)),
    ),
    Method(
        "models.RDrop",
        lambda run, rate, alpha: run.train(kr.models.RDrop(mlp(dropout=rate), alpha=alpha)),
        grid(rate=(0.25, 0.25, 0.5, 0.5), alpha=(1.0, 3.0, 1.0, 3.0)),
        passes=2,
    ),
    wrapped("VAT", grid(epsilon=(0.25, 0.5, 1.0, 2.0)), 3),
    Method(
        "models.Ensemble",
        lambda run, members: kr.models.Ensemble([run.train(mlp()) for _ in range(members)]),
        [{"members": 4}],
        passes=4,
    ),
]

PAGE = """
**Begin with label smoothing, which Keras has and which costs nothing**: {rows[label smoothing].accuracy} %
against {rows[plain].accuracy} % of plain training. `kr.models.VAT` is as good ({rows[models.VAT].accuracy} %)
for three passes a step. Among the methods for flat minima `kr.models.FriendlySAM` is ahead with
{rows[models.FriendlySAM].accuracy} %; all of them find flatter minima than plain training, and what that gains
in accuracy is little.

{table}

{picture}

## What was compared

A hundred and twenty training images of digits, about twelve of each, and a network that has learned them by
heart long before training ends. Flatness is measured on its own: by how much the training loss rises when every
kernel is moved by its own length in a random direction, the mean of a few draws.

## What to use

- **Label smoothing** first. Training for twice as long ({rows[plain, twice as long].accuracy} %), which costs
  what a second pass costs, gains nothing.
- **`kr.models.VAT`**, if three passes a step are no obstacle: it smooths the predictions around the inputs, and
  uses no labels for that, so that images without labels can be added.
- **`kr.models.FriendlySAM`** of those that look for flat minima. `kr.models.AMP` ({rows[models.AMP].accuracy}
  %) and `kr.models.AWP` ({rows[models.AWP].accuracy} %) are close, and `kr.models.SAM` itself
  ({rows[models.SAM].accuracy} %) gains least of these. `kr.models.MomentumSAM`
  ({rows[models.MomentumSAM].accuracy} %) costs no second pass.
- Dropout, `kr.models.RDrop` and a `kr.models.Ensemble` of four gain as much as the methods for flat minima do.
- `kr.models.Flooding` cost accuracy: {rows[models.Flooding].accuracy} %.
  `kr.callbacks.StochasticWeightAveraging`, Keras' moving average and early stopping change nothing, since the
  weights stand still in the second half of a training as short as this.

Flatness is real but is not the same as accuracy: `kr.models.SAM` lowers the rise of the loss from
{rows[plain].rise} to {rows[models.SAM].rise} and `kr.models.FriendlySAM` to {rows[models.FriendlySAM].rise},
while label smoothing gains more accuracy with a rise of {rows[label smoothing].rise}. (The rise of an ensemble
is not comparable: the moves of its members cancel.)

## Limits

A small dense network, images of 8 × 8 pixels, training without augmentation, no batch normalization, a constant
learning rate. Reports of larger gains are of deep convolutional networks and long trainings. `kr.models.IGNITE`
is for surrogates in offline optimization and is not in the table.

{protocol}
"""

TASK = Task(
    title="flat minima and small data",
    data=data,
    measure=measure,
    measures={
        "accuracy": Measure("accuracy, %"),
        "rise": Measure("rise of the loss", more_is_better=False, percent=False),
    },
    claims=[
        *(
            (better, "plain", "accuracy")
            for better in (
                "label smoothing",
                "models.VAT",
                "models.FriendlySAM",
                "models.AMP",
                "models.AWP",
                "models.SAM",
                "models.MomentumSAM",
                "models.RDrop",
                "models.Ensemble",
                "dropout",
            )
        ),
        *(
            (better, "plain", "rise")
            for better in (
                "models.SAM",
                "models.ASAM",
                "models.GSAM",
                "models.FriendlySAM",
                "models.LookSAM",
                "models.MomentumSAM",
                "models.AMP",
                "models.AWP",
                "models.GradientRegularization",
                "models.Flooding",
            )
        ),
        ("models.VAT", "models.FriendlySAM", "accuracy"),
        ("models.FriendlySAM", "models.SAM", "accuracy"),
        ("label smoothing", "models.SAM", "accuracy"),
        ("plain", "models.Flooding", "accuracy"),
    ],
    methods=METHODS,
    optimizer=sgd,
    epochs=60,
    batch_size=40,
    page=PAGE,
)
