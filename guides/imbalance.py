"""
# Rare classes

A classifier trained on classes of unequal size learns the sizes too: when in doubt, it says the frequent one. Where every
class matters the same, that is an error, and one that accuracy on data as unequal as these hides. This guide compares what
can be done about it by the loss, by weights and by the features, and looks at a single rare class and its F1 score.

**Use this when** classes are unequally frequent in the training data and all of them count the same.

**Do not when** the data of the use are as unequal, and accuracy is what counts: then cross-entropy is right to prefer the
frequent class.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 100
SEEDS = 5

"""
## A long tail

Of scikit-learn's ten digits, the most frequent class has a hundred training images, the next one two thirds of that, and
so on down to three. Which digit gets which place is drawn anew for each of five repetitions. The test images have all
classes in equal shares, nearly, and what counts is the mean of the recalls of the classes, the balanced accuracy.
"""

x_all, y_all = load_digits(return_X_y=True)
x_all = (x_all / 16).astype("float32")
counts = np.round(100 * (3 / 100) ** (np.arange(10) / 9)).astype(int)
print("training images per class", counts)


def long_tail(seed):
    """Training and test data; class 0 is the most frequent one, class 9 the rarest."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(10)[y_all]
    order = rng.permutation(len(y))
    x, y = x_all[order], y[order]
    chosen = np.concatenate([np.flatnonzero(y == k)[:n] for k, n in enumerate(counts)])
    rest = np.setdiff1d(np.arange(len(y)), chosen)
    return (x[chosen], y[chosen]), (x[rest], y[rest])


def recalls(model, x, y):
    predicted = model.predict(x, batch_size=len(x), verbose=0).argmax(axis=-1)
    return np.array([np.mean(predicted[y == k] == k) for k in range(10)])


"""
## Weights, margins, priors

Each method is a loss that is told the counts, or a part of the model. The network is the same.

- **Class weights** are Keras' own way; `class_balanced_weights` counts overlapping samples of a class as fewer.
- **`LogitAdjusted`** adds the log frequency of each class to its logit in training. The frequencies are then in the loss,
  and the logits need not learn them.
- **`LDAM`** asks rare classes to win by a larger margin. It is for cosines, so features and kernel are normalised.
- **`Seesaw`** lowers what samples of frequent classes do to the logits of rare ones, unless these win wrongly.
- **`NeuralCollapse`** leaves the loss alone. It draws the features of each class to a centre and spreads the centres.
"""

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
weights = dict(enumerate(kr.losses.class_balanced_weights(counts, beta=0.999)))


def plain():
    return keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)]
    )


def normalised():
    unit = keras.constraints.UnitNorm(axis=0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.UnitNormalization(),
            keras.layers.Dense(10, use_bias=False, kernel_constraint=unit),
        ]
    )


def collapsed():
    image, labels = keras.Input((64,)), keras.Input((), dtype="int32", optional=True)
    features = keras.layers.Dense(64, activation="relu")(image)
    collapse = kr.layers.NeuralCollapse(10, within_factor=0.01)
    logits = keras.layers.Dense(10)(collapse([features, labels]))
    return kr.models.WithLabels(keras.Model([image, labels], logits))


logit_adjusted, ldam = kr.losses.LogitAdjusted(counts), kr.losses.LDAM(counts)
methods = {
    "cross-entropy": (plain, crossentropy),
    "class weights": (plain, crossentropy),
    "LogitAdjusted": (plain, logit_adjusted),
    "Seesaw": (plain, kr.losses.Seesaw(counts)),
    "LDAM": (normalised, ldam),
    "LDAM, then weights": (normalised, ldam),
    "NeuralCollapse": (collapsed, crossentropy),
    "NeuralCollapse + LogitAdjusted": (collapsed, logit_adjusted),
}
# Epochs of which each uses weights: all, or the last fifth.
weighted = {"class weights": EPOCHS, "LDAM, then weights": EPOCHS // 5}


def train(make, loss, x, y, seed, late=0, rate=0.01, epochs=EPOCHS, class_weight=weights):
    """Trains on full batches, the last epochs with weights."""
    keras.utils.set_random_seed(seed)
    model = make()
    model.compile(keras.optimizers.Adam(rate), loss)
    options = {"batch_size": len(x), "verbose": 0}
    if late < epochs:
        model.fit(x, y, epochs=epochs - late, **options)
    if late:
        model.fit(x, y, epochs=late, class_weight=class_weight, **options)
    return model


found = {}
print(f"{'':31s} balanced accuracy  3 most frequent  3 rarest")
for name, (make, loss) in methods.items():
    repeated = []
    for seed in range(SEEDS):
        data, test = long_tail(seed)
        model = train(make, loss, *data, seed, late=weighted.get(name, 0))
        repeated.append(recalls(model, *test))
    found[name] = np.mean(repeated, axis=0)
    parts = found[name], found[name][:3], found[name][7:]
    print(f"{name:31s} {parts[0].mean():17.3f} {parts[1].mean():16.3f} {parts[2].mean():9.3f}")
rarest = {name: recall[7:].mean() for name, recall in found.items()}


"""
The columns are means of recalls: over all classes, which is the balanced accuracy, and over three of them. Everything is in
the tail: the most frequent classes are recognized by all methods. Of the three rarest, cross-entropy finds
{rarest["cross-entropy"]:.0%} and `LogitAdjusted` {rarest["LogitAdjusted"]:.0%}, which has the best balanced accuracy of what is
a loss alone, and nothing to tune. Class weights, `Seesaw`, and `LDAM` followed by weights lie between the two.
"""

figure, axis = plt.subplots(figsize=(8, 3.6))
for name in (
    "cross-entropy",
    "LDAM, then weights",
    "LogitAdjusted",
    "NeuralCollapse + LogitAdjusted",
):
    axis.plot(range(10), found[name], "o-", markersize=4, label=name)
axis.set_title("recall of each class over its number of training images", fontsize=10)
axis.set_xticks(range(10), counts)
axis.set_xlabel("training images of the class")
axis.set_ylabel("recall")
axis.set_ylim(0.4, 1.02)
axis.legend(frameon=False, fontsize=9, loc="lower left")
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
`LDAM` owes its gain to the margin and the weights together, as its authors say. `NeuralCollapse` alone does harm here:
clustered features do not move a boundary that leans towards the frequent classes. Together with `LogitAdjusted`, which
does, it is the best of all. The weight of its first part, 0.01, was chosen by what it shows here.

## One rare class

With two classes of which one is rare, what is often asked for is its F1 score. It is a number of the whole confusion matrix,
and cross-entropy does not know of it. `AnyLoss` makes it a loss: one minus the F1 score of the batch, counted with a steep
sigmoid in the place of a threshold. A linear model shall find the eights, of which there are 25 among some 800 images.
"""


def eights(seed):
    order = np.random.default_rng(seed).permutation(len(y_all))
    x, y = x_all[order], (y_all[order] == 8).astype("float32")[:, None]
    few = np.flatnonzero(y[:900] == 1)[:25]
    chosen = np.concatenate([few, np.flatnonzero(y[:900] == 0)])
    return (x[chosen], y[chosen]), (x[900:], y[900:])


def linear():
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])


def scores(logits, y, threshold=0.0):
    positive, hits = logits > threshold, np.sum((logits > threshold) & (y > 0))
    recall, precision = hits / np.sum(y > 0), hits / max(np.sum(positive), 1)
    return 2 * hits / (np.sum(positive) + np.sum(y > 0)), precision, recall


binary = keras.losses.BinaryCrossentropy(from_logits=True)
soft_f1 = kr.losses.AnyLoss("f1", amplification=5.0, from_logits=True)
f1_of = {}
for name, loss, late in (
    ("cross-entropy", binary, 0),
    ("with a threshold", binary, 0),
    ("with weights", binary, 2 * EPOCHS),
    ("AnyLoss", soft_f1, 0),
):
    repeated = []
    for seed in range(SEEDS):
        (x, y), (x_test, y_test) = eights(seed)
        model = train(
            linear, loss, x, y, seed, late, 0.1, 2 * EPOCHS, class_weight={0: 1.0, 1: 30.0}
        )
        logits = model.predict(x_test, batch_size=len(x_test), verbose=0)
        threshold = 0.0
        if name == "with a threshold":
            known = model.predict(x, batch_size=len(x), verbose=0)
            threshold = max(known[:, 0], key=lambda t: scores(known, y, t)[0])
        repeated.append(scores(logits, y_test, threshold))
    f1_of[name], precision, recall = np.mean(repeated, axis=0)
    print(f"{name:16s} F1 {f1_of[name]:.3f}, precision {precision:.3f}, recall {recall:.3f}")

"""
At a threshold of one half, cross-entropy overlooks more than half of the eights, and its F1 score is {f1_of["cross-entropy"]:.2f}.
`AnyLoss` finds more of them, with a score of {f1_of["AnyLoss"]:.2f}: as much as cross-entropy with the threshold that is best
in training, but there is no threshold to look for. Weights of 30 for the eights do better still here, with
{f1_of["with weights"]:.2f}: they buy recall with precision. The steepness of 5 is low; at the paper's 73 samples that are far
from the threshold get no gradient, and an unnormalised linear model starts far from it.

## Which one

- First `LogitAdjusted`: counts are all it needs. If the test data are as unequal as the training data, and accuracy is what
  counts, use cross-entropy.
- Features to be trained as well, and time to tune: `NeuralCollapse` in addition.
- `LDAM` with weights in the last fifth of the training, or `Seesaw` for detection, where the paper's counts run with the
  training.
- A score of two classes, precision and recall in one: `AnyLoss`, compared with weights and with a tuned threshold.
"""
