"""Prediction intervals: ranges of a number that hold what they promise, on the hidden halves of digits."""

import keras
import numpy as np
from keras import layers
from scipy.stats import norm
from sklearn.datasets import load_digits

import keras_regularize as kr
from benchmarks.comparisons._comparison import PLAIN, Data, Measure, Method, Task, grid

LEVELS = np.arange(1, 100) / 100
LIKELIHOOD = kr.losses.GaussianNegativeLogLikelihood
MIXTURE = kr.losses.GaussianMixtureNegativeLogLikelihood


def data(generator):
    """The upper halves of digits, and the ink in the lower left quarter as a standardized number."""
    images, _ = load_digits(return_X_y=True)
    images = images[generator.permutation(len(images))].reshape(-1, 8, 8) / 16
    x, y = images[:, :4].reshape(-1, 32), images[:, 4:, :4].mean(axis=(1, 2))
    y = (y - y[:400].mean()) / y[:400].std()
    parts = np.split(np.arange(len(y)), [400, 700])
    return Data(*((x[part].astype("float32"), y[part].astype("float32")) for part in parts))


def network(head, dropout=0.0):
    body = [layers.Dense(64, activation="relu")]
    if dropout:
        body.append(layers.Dropout(dropout))
    return keras.Sequential([keras.Input((32,)), *body, head])


def outputs(model, x):
    return model.predict(x, batch_size=len(x), verbose=0).astype("float64")


def measure(quantiles, data, part):
    """`quantiles(x)` are those of `LEVELS`, `(n, levels)`."""
    x, y = getattr(data, part)
    found, y = quantiles(x), y[:, None].astype("float64")
    above = y - found
    pinball = np.maximum(LEVELS * above, (LEVELS - 1) * above)
    inside = (found[:, 4] <= y[:, 0]) & (y[:, 0] <= found[:, 94])
    return {
        "crps": 2 * np.mean(pinball),
        "calibration": np.mean(np.abs(np.mean(y <= found, axis=0) - LEVELS)),
        "missed": abs(np.mean(inside) - 0.9),
    }


def one_width(run, model):
    """A mean for every input, and the spread of the validation errors around all of them."""
    x, y = run.data.validation
    spread = np.std(y - outputs(model, x)[:, 0])
    return lambda x: outputs(model, x) + spread * norm.ppf(LEVELS)


def squared_error(run, dropout=0.0, optimizer=None, **options):
    model = run.train(network(layers.Dense(1), dropout), "mse", optimizer, **options)
    return one_width(run, model)


def stopped(run, patience):
    stop = keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)
    return squared_error(run, callbacks=[stop], validation_data=run.data.validation)


def gaussian(model):
    def quantiles(x):
        mean, raw = outputs(model, x).T
        return mean[:, None] + np.logaddexp(raw, 0.0)[:, None] * norm.ppf(LEVELS)

    return quantiles


def mixture(model):
    """By bisection between values that all components lie between."""

    def quantiles(x):
        logits, means, raw = np.split(outputs(model, x)[:, None, :], 3, axis=-1)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights, scales = weights / weights.sum(axis=-1, keepdims=True), np.logaddexp(raw, 0.0)
        low, high = ((means + s * 10 * scales) for s in (-1, 1))
        low, high = low.min(axis=-1) + 0 * LEVELS, high.max(axis=-1) + 0 * LEVELS
        for _ in range(50):
            middle = (low + high) / 2
            below = np.sum(weights * norm.cdf((middle[..., None] - means) / scales), -1) < LEVELS
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return high

    return quantiles


def with_penalty(loss, weight):
    return kr.losses.WeightedSum([loss(), kr.losses.ProbabilisticCalibration()], [1.0, weight])


def distribution(run, loss, dropout):
    return gaussian(run.train(network(layers.Dense(2), dropout), loss))


def mixed(run, loss, components, dropout):
    return mixture(run.train(network(kr.layers.GaussianMixture(components), dropout), loss))


def sorted_outputs(run, loss, number, dropout):
    model = run.train(network(layers.Dense(number), dropout), loss)
    levels = (np.arange(number) + 0.5) / number

    def quantiles(x):
        return np.stack([np.interp(LEVELS, levels, row) for row in np.sort(outputs(model, x))])

    return quantiles


def of_levels(run, dropout):
    model = run.train(network(layers.Dense(len(LEVELS)), dropout), kr.losses.Quantile(list(LEVELS)))
    return lambda x: np.sort(outputs(model, x))


def conformal(run, dropout):
    quantiles = of_levels(run, dropout)
    x, y = run.data.validation
    moved = kr.analysis.ConformalQuantiles(LEVELS).fit(y, quantiles(x))
    return lambda x: np.sort(moved.quantile(quantiles(x)))


def recalibrated(run, model, method="linear"):
    x, y = run.data.validation
    recalibration = kr.analysis.QuantileRecalibration(method).fit(y, outputs(model, x))
    return lambda x: recalibration.quantile(outputs(model, x), LEVELS)


def recalibrated_training(run, temperature, dropout):
    net = network(layers.Dense(2), dropout)
    model = kr.models.RecalibratedTraining(net, temperature=temperature)
    model.compile(adam())
    run.fit(model)
    return recalibrated(run, net)


def adam():
    return keras.optimizers.Adam(0.01)


#: What every method here may choose from as Keras' own does.
DROPOUT = grid(dropout=(0.0, 0.1, 0.25, 0.5))

METHODS = [
    Method(None, squared_error, label=PLAIN),
    Method(
        None,
        squared_error,
        grid(dropout=(0.1, 0.25, 0.5, 0.7)),
        "dropout",
    ),
    Method(
        None,
        lambda run, decay: squared_error(
            run, optimizer=keras.optimizers.AdamW(0.01, weight_decay=decay)
        ),
        grid(decay=(0.1, 1.0, 3.0, 10.0)),
        "weight decay",
    ),
    Method(None, stopped, grid(patience=(1, 3, 6, 12)), "early stopping"),
    Method(
        "losses.GaussianNegativeLogLikelihood",
        lambda run, beta, dropout: distribution(run, LIKELIHOOD(beta), dropout),
        grid(beta=(0.0, 0.5, 0.0, 0.5), dropout=(0.1, 0.1, 0.25, 0.25)),
    ),
    Method(
        "losses.GaussianCRPS",
        lambda run, dropout: distribution(run, kr.losses.GaussianCRPS(), dropout),
        DROPOUT,
    ),
    Method(
        "losses.ProbabilisticCalibration",
        lambda run, weight, dropout: distribution(run, with_penalty(LIKELIHOOD, weight), dropout),
        grid(weight=(1.0, 5.0, 1.0, 5.0), dropout=(0.1, 0.1, 0.25, 0.25)),
        "losses.ProbabilisticCalibration, likelihood",
    ),
    Method(
        "losses.ProbabilisticCalibration",
        lambda run, weight, dropout: distribution(
            run, with_penalty(kr.losses.GaussianCRPS, weight), dropout
        ),
        grid(weight=(0.3, 1.0, 0.3, 1.0), dropout=(0.1, 0.1, 0.25, 0.25)),
        "losses.ProbabilisticCalibration, CRPS",
    ),
    Method(
        "losses.GaussianMixtureNegativeLogLikelihood",
        lambda run, components, dropout: mixed(run, MIXTURE(), components, dropout),
        grid(components=(2, 5, 2, 5), dropout=(0.1, 0.1, 0.25, 0.25)),
    ),
    Method(
        "losses.GaussianMixtureCRPS",
        lambda run, components, dropout: mixed(
            run, kr.losses.GaussianMixtureCRPS(), components, dropout
        ),
        grid(components=(2, 5, 2, 5), dropout=(0.1, 0.1, 0.25, 0.25)),
    ),
    Method("losses.Quantile", of_levels, DROPOUT),
    Method(
        "losses.EnsembleCRPS",
        lambda run, dropout: sorted_outputs(run, kr.losses.EnsembleCRPS(), 50, dropout),
        DROPOUT,
    ),
    Method("analysis.ConformalQuantiles", conformal, DROPOUT),
    Method(
        "analysis.QuantileRecalibration",
        lambda run, dropout: recalibrated(
            run, run.train(network(layers.Dense(2), dropout), kr.losses.GaussianCRPS())
        ),
        DROPOUT,
    ),
    Method(
        "models.RecalibratedTraining",
        recalibrated_training,
        grid(temperature=(0.03, 0.1, 0.03, 0.1), dropout=(0.1, 0.1, 0.25, 0.25)),
    ),
]

PAGE = """
**Begin with squared error, Keras' dropout and one width for all inputs, taken from errors on data that was not
trained on.** Nothing here has a lower score than its {rows[dropout].crps} %, and its ranges hold what they
promise. Where the width has to follow the input, train by `kr.losses.GaussianCRPS` or
`kr.losses.GaussianMixtureCRPS`, and keep data for `kr.analysis.QuantileRecalibration`: networks that learn
their own width make it too narrow.

{table}

{picture}

## What was compared

From the upper half of a digit a small network predicts how much ink there is in the lower left quarter, which a
seven and a nine with the same top do not agree on; 400 digits to train on, 300 held out, the others test. Every
method gives out 99 quantiles. The score of all of them, the CRPS, is the mean distance to the target in
standard deviations of the targets, less what is due to being unsure. The calibration error says how far the
share of targets below a quantile is from its level, on average, and the last column by how much the ranges
between the 5 % and the 95 % quantile miss their 90 %.

Methods of Keras are trained by squared error; their width is the spread of the errors on the held-out digits.
The others may choose dropout as Keras' own does.

## What to use

- **One width for all** is the surprise: plain squared error is as good as most networks that predict their own
  width, and its ranges are {rows[plain].missed} % off, where those of `kr.losses.GaussianNegativeLogLikelihood`
  are {rows[losses.GaussianNegativeLogLikelihood].missed} % off. Whether an input is harder than others is more
  to learn than 400 samples teach.
- **`kr.analysis.QuantileRecalibration`** and **`kr.analysis.ConformalQuantiles`** after training mend the
  promise: from {rows[losses.GaussianCRPS].missed} % and {rows[losses.Quantile].missed} % off to
  {rows[analysis.QuantileRecalibration].missed} % and {rows[analysis.ConformalQuantiles].missed} %, and the
  scores fall with it.
- `kr.losses.ProbabilisticCalibration` beside a loss helps ranges less, and needs no data held out.
- `kr.losses.GaussianMixtureCRPS` is the best that was trained here, because targets have several peaks; of the
  losses for quantiles, `kr.losses.Quantile` or `kr.losses.EnsembleCRPS`, neither gains on a Gaussian.
- `kr.models.RecalibratedTraining` has halves of 50 samples to recalibrate by in batches of 100, which is too
  few.

## Limits

One small data set, targets without outliers, and a held-out part nearly as large as the training data. One
width for all cannot be had where the spread differs much between inputs, as between small and large orders:
look at how often targets are below their quantiles in parts of the data, not on the whole alone.

{protocol}
"""

TASK = Task(
    title="prediction intervals",
    data=data,
    measure=measure,
    measures={
        "crps": Measure("CRPS in spreads, %", more_is_better=False),
        "calibration": Measure("calibration error (PCE), %", more_is_better=False),
        "missed": Measure("90 % ranges, off by %", more_is_better=False),
    },
    claims=[
        *(
            ("dropout", worse, "crps")
            for worse in ("plain", "early stopping", "losses.GaussianCRPS")
        ),
        *(
            ("plain", worse, "missed")
            for worse in (
                "losses.GaussianNegativeLogLikelihood",
                "losses.GaussianCRPS",
                "losses.GaussianMixtureCRPS",
                "losses.Quantile",
                "losses.EnsembleCRPS",
            )
        ),
        *(
            ("analysis.QuantileRecalibration", "losses.GaussianCRPS", measure)
            for measure in ("crps", "calibration", "missed")
        ),
        *(
            ("analysis.ConformalQuantiles", "losses.Quantile", measure)
            for measure in ("crps", "calibration", "missed")
        ),
        *(
            (f"losses.ProbabilisticCalibration, {name}", loss, "missed")
            for name, loss in (
                ("likelihood", "losses.GaussianNegativeLogLikelihood"),
                ("CRPS", "losses.GaussianCRPS"),
            )
        ),
        ("losses.GaussianMixtureCRPS", "losses.GaussianCRPS", "crps"),
        ("losses.GaussianCRPS", "losses.EnsembleCRPS", "crps"),
        ("losses.GaussianCRPS", "models.RecalibratedTraining", "crps"),
    ],
    methods=METHODS,
    optimizer=adam,
    epochs=40,
    batch_size=100,
    page=PAGE,
)
