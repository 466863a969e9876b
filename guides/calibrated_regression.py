"""
# Intervals that can be believed

A network that predicts a number can say how sure it is: give out a mean and a standard deviation, and train it by
the likelihood. Then 90 % of what comes should fall into its 90 % intervals. Networks that fit their training data
do not keep that promise. This guide shows how to see it, and three ways to mend it: a penalty in training,
training through the recalibration to come, and recalibration on data that was held out.

**Use this when** something acts on the predicted range – a stock, a dose, a bid – and not on the mean alone.

**Do not when** you need one good number: the mean squared error is enough then.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_diabetes

import keras_regularize as kr

EPOCHS = 40
SEEDS = 3

"""
## A network that is too sure

scikit-learn's diabetes data: ten measurements of a patient, and how the disease went on. Of 442 patients 200 are
trained on, 120 are held out to calibrate by, the others test. Targets are scaled to a standard deviation of 1.
"""

x, y = load_diabetes(return_X_y=True)
order = np.random.default_rng(0).permutation(len(x))
x, y = (x[order] / x.std(axis=0)).astype("float32"), y[order].astype("float32")
y = (y - y[:200].mean()) / y[:200].std()
train, held_out, test = slice(0, 200), slice(200, 320), slice(320, None)

"""
A layer of two outputs, mean and raw scale, is all that a Gaussian takes. `train_networks` gives the predictions of
networks that start from different weights; what is reported below is their mean.
"""


def train_networks(loss, wrap=None):
    predictions = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        hidden = keras.layers.Dense(64, activation="relu")
        network = keras.Sequential([keras.Input((10,)), hidden, keras.layers.Dense(2)])
        model = network if wrap is None else wrap(network)
        model.compile(keras.optimizers.Adam(0.01), loss)
        model.fit(x[train], y[train], batch_size=200, epochs=EPOCHS, verbose=0)
        predictions.append(network.predict(x, verbose=0))
    return predictions


"""
`ProbabilisticCalibrationError` asks how often targets fall below their predicted quantiles: below the 10 % quantile
should be 10 % of them, and so on for 100 levels. It says nothing about how wide the predictions are, so look at a
score of the whole distribution too: the likelihood, or the CRPS, which is in the unit of the targets.
"""

likelihood = kr.losses.GaussianNegativeLogLikelihood()
crps = kr.losses.GaussianCRPS()


def measure(predictions, part):
    rows = []
    for p in predictions:
        metric = kr.metrics.ProbabilisticCalibrationError()
        metric.update_state(y[part], p[part])
        rows.append([metric.result(), crps(y[part], p[part]), likelihood(y[part], p[part])])
    return np.mean([[float(ops.stop_gradient(value)) for value in row] for row in rows], axis=0)


def head():
    print(f"{'':32s} calibration error   CRPS  likelihood")


def report(name, values):
    print(f"{name:32s} {values[0]:17.3f} {values[1]:6.3f} {values[2]:11.2f}")
    return values


plain = train_networks(likelihood)
head()
known = report("likelihood, training patients", measure(plain, train))
new = report("likelihood, test patients", measure(plain, test))

"""
On the patients it was trained on, the network is nearly calibrated, with a negative log-likelihood of {known[2]:.2f}. On new ones
that is {new[2]:.1f}, where the distribution of all targets, the same for everyone, would have about 1.4. A picture says why:
the probabilities $F(y)$ that the network gave to values up to what came should be spread evenly. They pile up at both ends:
too many targets are where the network thought that nothing could be.
"""


def probabilities(predictions, part):
    return np.concatenate(
        [
            ops.convert_to_numpy(kr.losses.gaussian_mixture_cdf(y[part], p[part]))
            for p in predictions
        ]
    )


def reliability(axes, name, pits):
    """How probabilities are spread, and how often targets are below their quantiles."""
    bars, curve = axes
    bars.hist(pits, bins=10, range=(0, 1), density=True, color="C0", alpha=0.7)
    bars.axhline(1, color="gray", linestyle=":")
    bars.set_ylim(0, 3.5)
    bars.set_title(name, fontsize=9)
    levels = np.linspace(0, 1, 101)
    curve.plot(levels, np.mean(pits[:, None] <= levels, axis=0), color="C3")
    curve.plot([0, 1], [0, 1], ":", color="gray")
    curve.set_xlabel("level of the quantile")


figure, axes = plt.subplots(2, 2, figsize=(6.5, 5.4), sharex=True)
reliability(axes[:, 0], "likelihood, training patients", probabilities(plain, train))
reliability(axes[:, 1], "likelihood, test patients", probabilities(plain, test))
axes[0, 0].set_ylabel("density of F(y)")
axes[1, 0].set_ylabel("share of targets below")
figure.tight_layout()
plt.show()

"""
## In training

`ProbabilisticCalibration` is the calibration error of a batch, made smooth, and goes beside any loss with
`WeightedSum`. `GaussianCRPS` in the place of the likelihood has no reward for a standard deviation near 0.
`RecalibratedTraining` replaces the loss: in each step one half of the batch recalibrates the predictions for the
other, and what is trained is the likelihood after that.
"""

penalty = kr.losses.ProbabilisticCalibration()
trained = {
    "likelihood": plain,
    "likelihood and penalty": train_networks(kr.losses.WeightedSum([likelihood, penalty], [1, 5])),
    "CRPS": train_networks(crps),
    "CRPS and penalty": train_networks(kr.losses.WeightedSum([crps, penalty], [1, 5])),
    "RecalibratedTraining": train_networks(None, kr.models.RecalibratedTraining),
}
head()
before = {name: report(name, measure(p, test)) for name, p in trained.items()}

"""
The penalty takes the calibration error of the likelihood from {before["likelihood"][0]:.3f} to
{before["likelihood and penalty"][0]:.3f} and that of the CRPS from {before["CRPS"][0]:.3f} to {before["CRPS and penalty"][0]:.3f}.
On this many patients about {0.31 / np.sqrt(122):.3f} would be chance. The scores of the whole distribution fall with it: here what
was wrong was the width. All of it happens on training patients, so a network that is trained for long enough gets around it.
The predictions of `RecalibratedTraining` are not meant to be looked at yet: what it trained comes next.

## Afterwards

`QuantileRecalibration` learns from held-out patients what the probabilities of this network are worth: if 20 % of
their targets are below what it calls the 10 % quantile, that becomes the 20 % quantile. It is fitted once, by one
line, to predictions of any origin.
"""

levels = (np.arange(100) + 0.5) / 100


def recalibrated(predictions):
    """Probabilities of test targets after recalibration; calibration error and CRPS."""
    pits, rows = [], []
    for p in predictions:
        recalibration = kr.analysis.QuantileRecalibration("linear").fit(y[held_out], p[held_out])
        pits.append(recalibration.cdf(y[test], p[test]))
        error = np.mean(np.abs(levels - np.mean(pits[-1][:, None] <= levels, axis=0)))
        # Of 100 quantiles, the score of an ensemble is nearly that of the distribution.
        score = kr.losses.EnsembleCRPS()(y[test], recalibration.quantile(p[test], levels))
        rows.append([error, float(score)])
    return np.concatenate(pits), np.mean(rows, axis=0)


print(f"{'recalibrated':32s} calibration error   CRPS")
after = {name: recalibrated(p) for name, p in trained.items()}
for name, (_, (error, score)) in after.items():
    print(f"{name:32s} {error:17.3f} {score:6.3f}")

"""
In a picture, the network of the likelihood before and after, and the one with the penalty after:
"""

figure, axes = plt.subplots(2, 3, figsize=(9, 5.4), sharex=True, sharey="row")
reliability(axes[:, 0], "likelihood", probabilities(plain, test))
reliability(axes[:, 1], "likelihood, recalibrated", after["likelihood"][0])
reliability(axes[:, 2], "with penalty, recalibrated", after["likelihood and penalty"][0])
axes[0, 0].set_ylabel("density of F(y)")
axes[1, 0].set_ylabel("share of targets below")
figure.tight_layout()
plt.show()

"""
Recalibration brings every network close to what chance allows, and does not make a bad network good: what the likelihood's one
lost in CRPS by training too long stays lost, {after["likelihood"][1][1]:.3f} against
{after["likelihood and penalty"][1][1]:.3f} with the penalty. So do both. On so few patients, whose batches have halves of a hundred,
`RecalibratedTraining` gains nothing; it is made for batches of hundreds.

Intervals come from `quantile`. They hold on average over patients, give or take the chance of 120 and 122 of them:
"""

p = trained["likelihood and penalty"][0]
recalibration = kr.analysis.QuantileRecalibration("empirical").fit(y[held_out], p[held_out])
low, high = recalibration.quantile(p[test], [0.05, 0.95]).T
covered = np.mean((low <= y[test]) & (y[test] <= high))
print(
    f"90 % intervals cover {covered:.0%} of the test targets, {np.mean(high - low):.2f} wide on average"
)

"""
`"empirical"` quantiles are those of split conformal prediction: each level holds for new patients like the held-out ones, whatever
the network is. `ConformalQuantiles` does the same for networks that predict quantiles.

## Which one

- Look at `ProbabilisticCalibrationError` on data the network has not seen, and at a CRPS beside it.
- Train by `GaussianCRPS`, or by the likelihood, with `ProbabilisticCalibration`; batches of a hundred and more.
- Keep some data for `QuantileRecalibration`, in any case.
- Where targets have several peaks or are skewed, `layers.GaussianMixture` is the head, and everything here takes it as it is.
"""
