"""
# Small objects, thin boundaries, unlabelled pixels

When one pixel in a hundred belongs to the object, a network that answers "nothing" everywhere is right for 99 % of the
pixels, and cross-entropy is content with it for a long time. Losses of the overlap ask instead how much of the object was
found. This guide compares them on small objects, shows how to trade misses for false alarms, pulls in what lies
far off the object, and trains on several classes with pixels that have no label.

**Use this when** a network gives every pixel a class, and the classes are of very different size, or the outline matters.

**Do not when** the classes are of about the same size: cross-entropy then does as well, and is smoother to train.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 20
SEEDS = 2

"""
## Small objects

A handwritten digit of scikit-learn, 8 pixels high, somewhere in a noisy image of 40 × 40. The mask is its ink.
"""

digits, labels = load_digits(return_X_y=True)
digits = digits.reshape(-1, 8, 8) / 16
size = 40


def scenes(number, objects, noise, generator, scraps=0):
    """Images, and for each pixel 0 or one more than the digit it belongs to."""
    images = generator.normal(0, noise, (number, size, size))
    masks = np.zeros(images.shape, "int32")
    for image, mask in zip(images, masks):
        # No two in the same of 16 fields.
        for i, field in enumerate(generator.permutation(16)[: objects + scraps]):
            row, column = 10 * np.array(divmod(field, 4)) + generator.integers(0, 3, 2)
            index = generator.integers(len(digits))
            if i < objects:
                place = slice(row, row + 8), slice(column, column + 8)
                image[place] += digits[index]
                mask[place] = np.where(digits[index] > 0.5, labels[index] + 1, 0)
            else:
                image[row : row + 3, column : column + 3] += digits[index, 2:5, 2:5]
    return images[..., None].astype("float32"), masks


generator = np.random.default_rng(0)
x, y = scenes(200, 1, 0.35, generator)
x_test, y_test = scenes(400, 1, 0.35, generator)
y, y_test = np.minimum(y, 1), np.minimum(y_test, 1)
print(f"{np.mean(y):.1%} of the pixels are ink")

"""
All networks are three convolutions, trained in the same way. What is measured: the Dice score, the share of the ink that
was found (recall), the share of what was found that is ink (precision), and the Hausdorff distance, which says how far off,
in pixels, the outlines lie from one another where they do worst (at 95 % of their points).
"""


def network(outputs):
    convolutions = [keras.layers.Conv2D(12, 5, padding="same", activation="relu") for _ in range(3)]
    return keras.Sequential(
        [keras.Input((size, size, 1)), *convolutions, keras.layers.Conv2D(outputs, 1)]
    )


def train(loss, wrap=lambda model: model):
    """Logits of the test images, `(seeds, images, height, width, 1)`."""
    logits = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        model = wrap(network(1))
        model.compile(keras.optimizers.Adam(0.003), loss)
        model.fit(x, y[..., None], batch_size=10, epochs=EPOCHS, verbose=0)
        logits.append(model.predict(x_test, verbose=0))
    return np.stack(logits)


def measure(logits):
    """Means over the seeds."""
    found, ink = logits[..., 0] > 0, y_test == 1
    hits = np.sum(found & ink)
    distances, scores = [], []
    for z in logits:
        distance = kr.metrics.HausdorffDistance95(num_classes=2, threshold=0.0)
        score = kr.metrics.DiceScore(num_classes=2, threshold=0.0, include_background=False)
        distance.update_state(y_test, z)
        score.update_state(y_test, z)
        distances.append(float(distance.result()))
        scores.append(float(score.result()))
    return {
        "Dice": np.mean(scores),
        "recall": hits / (SEEDS * np.sum(ink)),
        "precision": hits / max(np.sum(found), 1),
        "distance": np.mean(distances),
    }


def head():
    print(f"{'':32s}  Dice  recall  precision  distance")


def report(name, logits):
    values = measure(logits)
    dice, recall, precision, distance = values.values()
    print(f"{name:32s} {dice:5.3f} {recall:7.3f} {precision:10.3f} {distance:9.2f}")
    return values


binary = keras.losses.BinaryCrossentropy(from_logits=True)
dice = kr.losses.SoftDice(from_logits=True)
losses = {
    "cross-entropy": binary,
    "SoftDice": dice,
    "Jaccard": kr.losses.Jaccard(from_logits=True),
    "GeneralizedDice": kr.losses.GeneralizedDice(from_logits=True),
    "UnifiedFocal": kr.losses.UnifiedFocal(from_logits=True),
    "SoftDice + cross-entropy": kr.losses.WeightedSum([dice, binary]),
    "LovaszHinge": kr.losses.LovaszHinge(),
}
logits = {name: train(loss) for name, loss in losses.items()}
head()
found = {name: report(name, z) for name, z in logits.items()}

"""
In {EPOCHS:d} epochs cross-entropy has found the ink from one start, and from the other none at all: the losses of the overlap
are past that plateau. Among themselves they are close, and their sum with cross-entropy costs nothing here; it is also what
most published networks are trained with. `LovaszHinge` continues the intersection over union of *hard* masks, and while a network finds
nothing, or everything, that hardly changes: use it to finish a network that finds something already, or in a sum.

## Misses against false alarms

Where a miss costs more than a false alarm, as in screening, say so to the loss. `FocalTversky` weighs the two:
"""

weights = [0.1, 0.3, 0.5, 0.7, 0.9]
head()
trade = []
for weight in weights:
    loss = kr.losses.FocalTversky(
        false_positive_weight=1 - weight, false_negative_weight=weight, from_logits=True
    )
    trade.append(report(f"FocalTversky, misses weigh {weight}", train(loss)))

figure, axis = plt.subplots(figsize=(4.5, 3))
for key in ("recall", "precision", "Dice"):
    axis.plot(weights, [values[key] for values in trade], "o-", label=key)
axis.set_xlabel("false_negative_weight")
axis.set_title("What a weight on misses does", fontsize=10)
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
From left to right the network finds {trade[0]["recall"]:.0%} to {trade[-1]["recall"]:.0%} of the ink, and what it finds is ink in
{trade[0]["precision"]:.0%} to {trade[-1]["precision"]:.0%} of the pixels. Keras' own `Tversky` has the two weights the other
way round from what its documentation says.

## What lies far off

An overlap does not see *where* a false alarm is. Here are images with three scraps of ink as well, 3 × 3 pixels cut out
of other digits, that belong to no object; and a network of one convolution, which has 7 × 7 pixels to tell them by. `Boundary`
weighs each pixel by its distance to the outline. Alone it is content with an empty mask, so its authors let it grow in while
the loss of the overlap leaves: `models.ScheduledLoss` adds a loss with weights that follow schedules, on every backend.
"""

plain = x_test, y_test
x, y = scenes(200, 1, 0.2, generator, scraps=3)
x_test, y_test = scenes(200, 1, 0.2, generator, scraps=3)
y, y_test = np.minimum(y, 1), np.minimum(y_test, 1)

steps = EPOCHS * len(x) // 10
rising = keras.optimizers.schedules.PolynomialDecay(0.01, steps, 0.5)
falling = keras.optimizers.schedules.PolynomialDecay(0.99, steps, 0.5)
boundary = kr.losses.Boundary(from_logits=True)


def one_convolution(model):
    """In the place of the network of three."""
    convolution = keras.layers.Conv2D(12, 7, padding="same", activation="relu")
    return keras.Sequential([keras.Input(model.input_shape[1:]), convolution, model.layers[-1]])


def with_boundary(model):
    return kr.models.ScheduledLoss(one_convolution(model), boundary, rising, falling)


overlap = kr.losses.GeneralizedDice(from_logits=True)
scraps = {
    "GeneralizedDice": train(overlap, one_convolution),
    "with Boundary": train(overlap, with_boundary),
    "three convolutions": train(overlap),
}
head()
without, bounded, wide = (report(name, z) for name, z in scraps.items())


def show(x_test, y_test, logits, title):
    """What was found in the first four images, by the last of the networks."""
    figure, axes = plt.subplots(1 + len(logits), 4, figsize=(7, 1.9 + 1.75 * len(logits)))
    for index, axis in enumerate(axes[0]):
        axis.imshow(x_test[index, ..., 0], cmap="gray_r")
    axes[0, 0].set_ylabel("image", fontsize=9)
    for row, (name, z) in zip(axes[1:], logits.items()):
        row[0].set_ylabel(name, fontsize=9)
        for index, axis in enumerate(row):
            axis.imshow(z[-1, index, ..., 0] > 0, cmap="gray_r", vmax=2)
            axis.contour(y_test[index], [0.5], colors="C3", linewidths=1)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    plt.show()


false_alarms = np.sum((scraps["GeneralizedDice"][-1, ..., 0] > 0) & (y_test == 0), axis=(1, 2))
worst = np.argsort(-false_alarms)[:4]
title = "Ink that was found among scraps, in the images where the overlap finds most of them"
show(x_test[worst], y_test[worst], {name: z[:, worst] for name, z in scraps.items()}, title)

"""
The outlines that lay {without["distance"]:.1f} pixels off lie {bounded["distance"]:.1f} pixels off now, for a Dice score of
{bounded["Dice"]:.2f} in the place of {without["Dice"]:.2f}. The network of three convolutions sees enough around a pixel to tell
scraps from digits by itself, and is {wide["distance"]:.1f} pixels off with the overlap alone: `Boundary` is for what a
network cannot tell otherwise.

The distances are computed in the step. To do it once, in the data pipeline, give `losses.distance_maps(y)` as the targets.

## Several classes, and pixels without a label

Now four digits an image, less noise, and the task to say for each pixel which digit it belongs to: ten classes and the
background. The rims, where ink fades into paper, belong to nobody; their label is 255. Everything here that takes class
ids takes `ignore_class`: such pixels have no part in sums and overlaps, and it does not matter what the network says there.
"""

x, y = scenes(200, 4, 0.1, generator)
x_test, y_test = scenes(100, 4, 0.1, generator)


def with_rims(x, y):
    return np.where((y == 0) & (x[..., 0] > 0.25), 255, y)


y, y_test = with_rims(x, y), with_rims(x_test, y_test)
sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
options = {"from_logits": True, "ignore_class": 255}
multiple = {
    "cross-entropy": sparse,
    "FocalCrossentropy": kr.losses.FocalCrossentropy(**options),
    "cross-entropy + SoftDice": kr.losses.WeightedSum([sparse, kr.losses.SoftDice(**options)]),
    "cross-entropy + LovaszSoftmax": kr.losses.WeightedSum(
        [sparse, kr.losses.LovaszSoftmax(**options)]
    ),
}
print(f"{'':32s}  Dice, mean of the classes")
several, maps = {}, {}
for name, loss in multiple.items():
    keras.utils.set_random_seed(0)
    model = network(11)
    model.compile(keras.optimizers.Adam(0.003), loss)
    model.fit(x, y, batch_size=10, epochs=2 * EPOCHS, verbose=0)
    metric = kr.metrics.DiceScore(num_classes=11, ignore_class=255)
    maps[name] = ops.convert_to_numpy(model.predict(x_test, verbose=0))
    metric.update_state(y_test, maps[name])
    several[name] = float(metric.result())
    print(f"{name:32s} {several[name]:6.3f}")

shown = {"labels": y_test, **{name: z.argmax(-1) for name, z in maps.items()}}
figure, axes = plt.subplots(2, 5, figsize=(9, 3.9))
for index, row in enumerate(axes):
    for axis, (name, classes) in zip(row, shown.items()):
        picture = np.ma.masked_equal(classes[index], 0)
        axis.imshow(x_test[index, ..., 0], cmap="gray_r", vmax=2)
        axis.imshow(np.ma.masked_equal(picture, 255), cmap="tab10", vmin=1, vmax=10)
        axis.set_xticks([])
        axis.set_yticks([])
        if index == 0:
            axis.set_title(name.replace(" + ", "\n+ "), fontsize=8)
figure.suptitle("Which digit does each pixel belong to?", fontsize=10)
figure.tight_layout()
plt.show()

"""
## Which one

- Begin with cross-entropy; add `SoftDice` (`losses.WeightedSum`) as soon as a class is small.
- `FocalTversky` if misses and false alarms have different prices.
- `Boundary` on a schedule if what is far off matters, and look at `HausdorffDistance95`, not at Dice alone.
- Classes that are absent from an image and predicted nowhere cost nothing in any of them: an empty mask is no error.

Once more the small objects:
"""

shown = {name: logits[name] for name in ("cross-entropy", "SoftDice", "SoftDice + cross-entropy")}
show(*plain, shown, "Ink that was found, and the outline of the digit")
