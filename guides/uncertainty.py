"""
# Uncertainty of a trained network

A trained classifier gives a class and a number that it calls its confidence. This guide turns that number into something
to act on, without training anything again: one factor that makes confidence fit accuracy, sets of classes that contain
the right one nine times out of ten, intervals that hold up when the inputs shift, and a score for what the network has
never seen.

**Use this when** a network is trained and works, and decisions hang on how sure it is. All that is needed is some hundred
labelled samples that were not trained on.

**Do not when** there are no such samples left: what is fitted on training data says nothing. And none of it makes the
network any better at its task.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 60
REPEATS = 100
SEEDS = 10

"""
scikit-learn's digits under so much noise that many cannot be told apart: 500 to train on, 1297 kept apart. The network
is trained until it fits its training images, and is then far too sure of all others.
"""

x, y = load_digits(return_X_y=True)
generator = np.random.default_rng(0)
order = generator.permutation(len(x))
x, y = x[order] / 16 + generator.normal(0, 0.4, x.shape), y[order]


def train_network(x, y):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(128, activation="relu")
    network = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(10)])
    network.compile(
        keras.optimizers.Adam(0.005), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    network.fit(x, y, batch_size=100, epochs=EPOCHS, verbose=0)
    return network


network = train_network(x[:500], y[:500])
x_fit, y_fit, x_test, y_test = x[500:900], y[500:900], x[900:], y[900:]

"""
## One factor for all logits

`TemperatureScaling` divides the logits by the one number that gives 400 images, which were not trained on, their
largest likelihood. `calibrated_model` is an ordinary Keras model: it predicts probabilities, and can be saved and
exported.
"""

scaling = kr.analysis.TemperatureScaling(network).fit(x_fit, y_fit)
calibrated = scaling.calibrated_model


def softmax(logits):
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits, axis=-1))


before, after = softmax(network.predict(x_test, verbose=0)), calibrated.predict(x_test, verbose=0)
print(f"temperature {scaling.temperature_:.2f}")
print(f"{'':8s} accuracy  calibration error  cross-entropy")
diagrams, entropies = {}, {}
for name, p in (("before", before), ("after", after)):
    diagrams[name] = kr.analysis.reliability_diagram(y_test, p, num_bins=10)
    entropies[name] = -np.mean(np.log(p[np.arange(len(p)), y_test]))
    accuracy = np.mean(p.argmax(-1) == y_test)
    error = diagrams[name].expected_calibration_error
    print(f"{name:8s} {accuracy:8.3f} {error:18.3f} {entropies[name]:14.3f}")

figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), sharey=True)
for axis, (name, diagram) in zip(axes, diagrams.items()):
    diagram.plot(axis)
    axis.set_title(f"{name} temperature scaling")
figure.tight_layout()
plt.show()

"""
The order of the classes stays, and with it the accuracy. The calibration error falls from
{diagrams["before"].expected_calibration_error:.2f} to {diagrams["after"].expected_calibration_error:.2f}, and the
cross-entropy from {entropies["before"]:.2f} to {entropies["after"]:.2f}. One number cannot overfit; `VectorScaling` and
`IsotonicCalibration` fit more of them, and need more samples.

## Sets that contain the right class

A probability of 0.9 is a promise only as far as the model behind it holds. Conformal prediction promises less and keeps
it whatever the model: a set of classes that contains the right one with a probability of at least 90 %, if calibration and
test samples come from the same population. Of the 897 images that nothing was fitted on, 450 give the threshold and the
others test; again for other parts, {REPEATS:d} times.
"""

coverage = {"threshold": [], "adaptive": []}
sizes = {"threshold": [], "adaptive": []}
for seed in range(REPEATS):
    rows = np.random.default_rng(seed).permutation(len(after))
    known, new = rows[:450], rows[450:]
    for method in coverage:
        conformal = kr.analysis.ConformalClassifier(alpha=0.1, method=method)
        sets = conformal.fit(y_test[known], after[known]).predict(after[new])
        coverage[method].append(np.mean(sets[np.arange(len(new)), y_test[new]]))
        sizes[method].append(np.mean(sets.sum(axis=1)))
for method in coverage:
    print(
        f"{method:10s} covers {np.mean(coverage[method]):.1%}, {np.mean(sizes[method]):.2f} classes"
    )

figure, axis = plt.subplots(figsize=(6, 3.2))
for method, values in coverage.items():
    axis.hist(values, bins=np.linspace(0.85, 0.95, 21), alpha=0.6, label=method)
axis.axvline(0.9, color="gray", linestyle=":")
axis.set_xlabel("share of test images whose set contains the right digit")
axis.set_ylabel("splits")
axis.set_title("Coverage of 90 % sets")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
Both keep the promise: {np.mean(coverage["threshold"]):.1%} and {np.mean(coverage["adaptive"]):.1%}. Sets of
`"threshold"` are the smaller ones, {np.mean(sizes["threshold"]):.2f} digits on average to
{np.mean(sizes["adaptive"]):.2f}; those of `"adaptive"` come nearer to 90 % for easy and for difficult images alike. A
single split covers some points more or less: the promise is one of averages.

For numbers in the place of classes there is `ConformalRegressor`, and [a guide to intervals](calibrated_regression.md).

## When the inputs shift

The promise breaks where the test population is another one. Here a regression of 40 features, whose errors are the
larger the larger the first feature is; where the model is used, that feature is higher by one standard deviation on
average. `LikelihoodRatioQuantile` takes unlabelled inputs from there and adapts the threshold, without ever estimating
how much likelier an input has become.
"""


def errors(size, shift, generator):
    """Features, and absolute errors of some model."""
    x = generator.normal(size=(size, 40))
    x[:, 0] += shift
    return x, np.abs(generator.normal(size=size)) * np.exp(0.5 * x[:, 0])


covered = []
for seed in range(SEEDS):
    generator = np.random.default_rng(seed)
    (z, scores), (unlabelled, _) = errors(150, 0.0, generator), errors(500, 0.0, generator)
    (target, _), (new, wanted) = errors(500, 1.0, generator), errors(2000, 1.0, generator)
    split = kr.analysis.split_conformal_quantile(scores, alpha=0.1)
    adapted = kr.analysis.LikelihoodRatioQuantile(alpha=0.1)
    adapted.fit(scores, x_source=z, x_target=target, x_unlabeled=unlabelled)
    covered.append([np.mean(wanted <= split), np.mean(wanted <= adapted.threshold(new))])
split_coverage, adapted_coverage = np.mean(covered, axis=0)
print(
    f"covered of the shifted population: {split_coverage:.1%} by one threshold, {adapted_coverage:.1%} adapted"
)

"""
From {split_coverage:.0%} to {adapted_coverage:.0%}: better, not repaired. 150 labelled samples are few for 40 features.
Where the likelihood ratio is known, `weighted_conformal_quantile` gets all the way.

## What the network has never seen

A classifier of digits calls anything a digit. The largest probability, or better the `logsumexp` of the logits, which
keeps their size, tells the unknown apart to some degree. A network that knows 0 to 7 meets 8 and 9, and images whose
pixels are shuffled:
"""

old = y < 8
few = train_network(x[:900][old[:900]], y[:900][old[:900]])
shuffled = np.random.default_rng(1).permutation(64)
others = {"8 and 9": x[900:][~old[900:]], "shuffled pixels": x[900:][old[900:]][:, shuffled]}


def scores_of(x):
    logits = few.predict(x, verbose=0)
    return {
        "probability": softmax(logits).max(-1),
        "logsumexp": np.logaddexp.reduce(logits, axis=-1),
    }


inside, areas = scores_of(x[900:][old[900:]]), {}
print(f"{'':33s} AUROC  let through of them, with 95 % of known digits")
for other, images in others.items():
    for score, values in scores_of(images).items():
        result = kr.analysis.out_of_distribution_scores(inside[score], values)
        areas[other, score] = result.auroc
        print(f"{other:18s} {score:14s} {result.auroc:5.2f} {result.fpr95:6.0%}")

"""
An AUROC of 0.5 is chance. Under this much noise 8 and 9 look like other digits:
{areas["8 and 9", "probability"]:.2f} by the probability, {areas["8 and 9", "logsumexp"]:.2f} by the `logsumexp`. Measure
on data of the kind you fear, since no score is best for all.

## Which one

- `TemperatureScaling` first: it costs nothing, and whatever reads probabilities gets better ones.
- `ConformalClassifier` or `ConformalRegressor` where a guarantee is wanted; look at the size of the sets, which is where
  a poor network shows.
- `LikelihoodRatioQuantile` where inputs of the place of use are at hand and labels are not.
- A score for unknown inputs in front of all of it.
- If the network is too sure because it was trained too long, [begin there](calibration.md).
"""
