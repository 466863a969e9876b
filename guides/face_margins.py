"""
# Telling apart what was never trained on

A classifier knows the classes it was trained on. Recognising a face, a voice or a product means more: samples of new
classes shall be compared with each other by their features. Margin heads train features for that. This guide trains
them on some identities, compares samples of others, and shows what a margin does and when it does harm.

**Use this when** the classes of the use are not those of the training, and what counts is whether two samples are of one
class.

**Do not when** the classes stay the same: then a plain head classifies as well. And be careful where many samples are too
poor to be recognised: a margin presses those most.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 30
SEEDS = 5

"""
## Many identities

Two of scikit-learn's digits side by side show a number from 00 to 99: a hundred identities, each written by many hands.
Sixty of them, drawn at random, are for training. The other forty are for the test, made of digits that no training image
contains.
"""

digits, values = load_digits(return_X_y=True)
digits = (digits / 16).astype("float32").reshape(-1, 8, 8)


def draw(numbers, samples, pool, rng):
    """Images of the numbers, each digit taken at random from the pool, and which number it is."""
    labels = np.repeat(numbers, samples)

    def pick(wanted):
        return np.stack([digits[rng.choice(pool[values[pool] == k])] for k in wanted])

    images = np.concatenate([pick(labels // 10), pick(labels % 10)], axis=2)
    return images.reshape(len(images), -1), labels


def identities(seed):
    rng = np.random.default_rng(seed)
    numbers, pool = rng.permutation(100), rng.permutation(len(digits))
    known, new = np.sort(numbers[:60]), numbers[60:]
    x, y = draw(known, 60, pool[:900], rng)
    return (x, np.searchsorted(known, y)), draw(new, 20, pool[900:], rng)


"""
## A head with labels

A margin changes the logit of a sample's own class in training. So the head takes the labels beside the features, through
an optional input; `WithLabels` feeds them during `fit`. The features are a model of their own, which needs no labels.
Features are compared by their cosine.
"""

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(make_head, x, y, units=(256, 32), epochs=EPOCHS, seed=0):
    """Trains a network with a head; the model that gives its features."""
    keras.utils.set_random_seed(seed)
    head = make_head()
    image = keras.Input(x.shape[1:])
    labels = keras.Input((), dtype="int32", optional=True)
    features = image
    for size in units[:-1]:
        features = keras.layers.Dense(size, activation="relu")(features)
    features = keras.layers.Dense(units[-1])(features)
    if isinstance(head, keras.layers.Dense):
        model = keras.Model(image, head(features))
    else:
        model = kr.models.WithLabels(keras.Model([image, labels], head([features, labels])))
    model.compile(keras.optimizers.Adam(1e-3), crossentropy)
    model.fit(x, y, batch_size=120, epochs=epochs, verbose=0)
    return keras.Model(image, features)


def pairs(embed, x, labels):
    """Cosines of all pairs of different samples, and whether they show the same number."""
    features = embed.predict(x, batch_size=len(x), verbose=0)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    return units @ units.T, labels[:, None] == labels


def retrieval(cosines, same):
    """How often the nearest other sample shows the same number."""
    nearest = np.argmax(cosines - 3 * np.eye(len(cosines)), axis=1)
    return np.mean(same[np.arange(len(same)), nearest])


def verification(cosines, same):
    """Share of equal pairs that are found when one in a hundred unequal ones is taken for equal."""
    upper = np.triu_indices(len(same), 1)
    cosines, same = cosines[upper], same[upper]
    return np.mean(cosines[same] > np.quantile(cosines[~same], 0.99))


heads = {
    "softmax": lambda: keras.layers.Dense(60),
    "normalised": lambda: kr.layers.CosFace(60, margin=0.0, scale=16.0),
    "CosFace": lambda: kr.layers.CosFace(60, margin=0.3, scale=16.0),
    "ArcFace": lambda: kr.layers.ArcFace(60, margin=0.5, scale=16.0),
    "AdaFace": lambda: kr.layers.AdaFace(60, margin=0.4, scale=16.0),
    "CurricularFace": lambda: kr.layers.CurricularFace(60, margin=0.5, scale=16.0),
    "MagFace": lambda: kr.layers.MagFace(
        60, 0.3, 0.6, min_norm=1.0, max_norm=10.0, factor=1.0, scale=16.0
    ),
    "its length loss": lambda: kr.layers.MagFace(
        60, 0.0, 0.0, min_norm=1.0, max_norm=10.0, factor=1.0, scale=16.0
    ),
}
shown, found = {}, {}
print(f"{'':15s} nearest neighbour right  equal pairs found")
for name, make_head in heads.items():
    scores = []
    for seed in range(SEEDS):
        known, new = identities(seed)
        shown[name] = pairs(train(make_head, *known, seed=seed), *new)
        scores.append([retrieval(*shown[name]), verification(*shown[name])])
    found[name] = np.mean(scores, axis=0)
    print(f"{name:15s} {found[name][0]:23.3f} {found[name][1]:18.3f}")

"""
Means over five random splits, the same ones for all heads; margins and scale were chosen among a few by what they show
here. Comparing by angle in training already, without a margin, raises the share of right neighbours. A margin hardly adds
to it as `CosFace` has it, and more as in `ArcFace`, which also finds more of the equal pairs. `MagFace` goes furthest:
{found["MagFace"][0]:.0%} right neighbours where softmax has {found["softmax"][0]:.0%}, and {found["MagFace"][1]:.0%} of the equal
pairs where softmax has {found["softmax"][1]:.0%}. Part of that is its loss on the length of the features, which alone, without
a margin, does much of it.

These are the cosines of all pairs for three of the heads:
"""

figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for axis, name in zip(axes, ("softmax", "ArcFace", "MagFace")):
    cosines, same = shown[name]
    upper = np.triu_indices(len(same), 1)
    for equal, label in ((True, "same number"), (False, "other number")):
        chosen = cosines[upper][same[upper] == equal]
        axis.hist(chosen, np.linspace(-0.8, 1, 60), density=True, alpha=0.6, label=label)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel("cosine of a pair")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False, fontsize=9, loc="upper left")
axes[0].set_ylabel("density")
figure.tight_layout()
plt.show()

"""
It is less the equal pairs that come closer than the unequal ones that part. Under
softmax their mean cosine is well above zero, and the tail reaches far into that of the equal ones.

## What a margin does

Two features can be looked at. Here the network learns five of the digits. Beside the plain head, two heads that compare by
angle, without and with a margin, give features whose length does not count; the picture shows their direction.
"""

few = values < 5
x, y = digits[few].reshape(-1, 64), values[few]
plane = {
    "softmax": lambda: keras.layers.Dense(5),
    "no margin": lambda: kr.layers.CosFace(5, margin=0.0, scale=16.0),
    "margin 0.4": lambda: kr.layers.CosFace(5, margin=0.4, scale=16.0),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for axis, (name, make_head) in zip(axes, plane.items()):
    embed = train(make_head, x[:600], y[:600], units=(128, 128, 2), epochs=2 * EPOCHS, seed=1)
    features, labels = embed.predict(x[600:], batch_size=301, verbose=0), y[600:]
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    centers = np.stack([directions[labels == k].mean(axis=0) for k in range(5)])
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    apart = np.arccos(np.clip(np.sum(directions * centers[labels], axis=1), -1, 1))
    print(f"{name:10s} half of the samples within {np.degrees(np.median(apart)):4.1f} degrees")
    axis.scatter(*(features if name == "softmax" else directions).T, c=labels, cmap="tab10", s=5)
    axis.set_title(name, fontsize=10)
    axis.set_aspect("equal", "datalim")
    axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
On the circle the margin shows: the samples lie closer to the direction of their class than without one. Gaps open between
the classes. With so few dimensions a margin cannot be much larger: five classes share 360 degrees.

## Poor images

A margin asks of every sample what only a good one can give. In the next data half of the pixels are missing from three
images in ten, in training and in the test. `MagFace` and `AdaFace` read from the length of the features how good an image
is. Does it say so? And does it help to leave out the three tenths of the test images with the shortest features?
"""


def spoil(x, seed):
    """Loses half of the pixels of 30 % of the images; and which images those are."""
    rng = np.random.default_rng(seed)
    poor = rng.random(len(x)) < 0.3
    lost = poor[:, None] & (rng.random(x.shape) < 0.5)
    return np.where(lost, 0.0, x).astype("float32"), poor


spoiled = {}
print("         nearest right  good longer than poor  nearest right without the shortest")
for name in ("softmax", "ArcFace", "AdaFace", "MagFace"):
    scores = []
    for seed in range(SEEDS):
        (x, y), (x_new, new) = identities(seed)
        (x, _), (x_new, poor) = spoil(x, 1), spoil(x_new, 2)
        embed = train(heads[name], x, y, seed=seed)
        lengths = np.linalg.norm(embed.predict(x_new, batch_size=len(x_new), verbose=0), axis=1)
        told = np.mean(lengths[~poor, None] > lengths[poor])
        cosines, same = pairs(embed, x_new, new)
        long = np.flatnonzero(lengths > np.quantile(lengths, 0.3))
        kept = np.ix_(long, long)
        scores.append([retrieval(cosines, same), told, retrieval(cosines[kept], same[kept])])
    nearest, told, without = spoiled[name] = np.mean(scores, axis=0)
    print(f"{name:8s} {nearest:13.3f} {told:22.2f} {without:35.3f}")

"""
Here the plain head is ahead of `ArcFace` and `AdaFace`: it does not pay to press samples that show too little. `MagFace`,
whose margin is smaller for them, is right for {spoiled["MagFace"][0]:.0%}. In its features a good image is longer than a poor
one in {spoiled["MagFace"][1]:.0%} of all cases. Without the shortest three tenths of the images, {spoiled["MagFace"][2]:.0%} of
the neighbours are right. Length is not the privilege of margin heads, though: the plain head, whose logits need it, orders
the images best.

`AdaFace` takes the length for quality and does not train it. In this small network its lengths tell little, and so it
gains nothing. It is made for deep networks on faces, where they do: look at the lengths before relying on it.

## Which one

- New classes at test time, clean images: `CosFace` or `ArcFace`. Start without a margin and raise it while new classes
  gain; accuracy on the known ones does not tell.
- `CurricularFace` is meant for large data, where hard classes at the start of training mislead; here it is near `ArcFace`.
- Images of mixed quality: `MagFace`, and use the lengths to leave out what cannot be recognised.
- A scale of 64 suits hundreds of features and thousands of classes. With few of both take 10 to 20.

Margin heads are layers, and `WithLabels` nests like every train step: `SAM(WithLabels(model))` trains them with
sharpness-aware minimization.

The nearest neighbours of the first part, all heads beside each other:
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for name in reversed(found):
    axis.plot(found[name][0], name, "o", color="C0")
axis.set_title("nearest neighbour shows the same number, new identities", fontsize=10)
axis.grid(axis="x", color="0.9")
axis.set_xlabel("share of the samples")
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()
