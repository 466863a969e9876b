"""
# Features without labels

Labels are few, images are many. Self-supervised learning gives a network a task that needs no labels: two views of an image,
moved and noisy in different ways, are to be told from the views of all others. What it learns on the way, features that keep
what an image shows and forget where it stands, is what a classifier needs. This guide trains an encoder on digits without a
label, puts a linear classifier with three labels per digit on its features, and shows how training without negatives
collapses, and how to see that in time.

**Use this when** there is much data like that of the task, few labels, and it is known which changes do not matter.

**Do not when** labels are many: train on them. With a pretrained encoder for such data, fine-tune that.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 100

"""
## Views

The digits of scikit-learn, 8 × 8 pixels: 1297 without labels, 30 of them with one, 500 for the test. The augmentation is
where knowledge enters: place, size and noise do not matter. Any layer will do, such as those of Keras for larger images;
this one moves and zooms tiny ones.
"""

digits, labels = load_digits(return_X_y=True)
images = (digits.reshape(-1, 8, 8) / 16).astype("float32")
order = np.random.default_rng(0).permutation(len(images))
x, y = images[order[:1297]], labels[order[:1297]]
x_test, y_test = images[order[1297:]], labels[order[1297:]]
few = np.concatenate([np.flatnonzero(y == digit)[:3] for digit in range(10)])


class Move(layers.Layer):
    """Shifts by up to a pixel and zooms by up to 15 %, rows and columns each by themselves."""

    def __init__(self, seed=0):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images):
        return ops.matmul(
            ops.matmul(self.rows(images), images), ops.swapaxes(self.rows(images), 1, 2)
        )

    def rows(self, images):
        shape, place = (ops.shape(images)[0], 1, 1), ops.arange(8, dtype="float32")
        zoom = keras.random.uniform(shape, 0.85, 1.15, seed=self.seed_generator)
        shift = keras.random.uniform(shape, -1.0, 1.0, seed=self.seed_generator)
        return ops.relu(1.0 - ops.abs(3.5 + (place[:, None] - 3.5) * zoom + shift - place))


def augmentation():
    return keras.Sequential([Move(), layers.GaussianNoise(0.15, seed=1)])


augment = augmentation()
moved = [ops.convert_to_numpy(augment(x[:8], training=True)) for _ in range(2)]
figure, axes = plt.subplots(3, 8, figsize=(9, 3.6))
for row, (name, pictures) in enumerate(zip(("image", "one view", "another"), (x[:8], *moved))):
    for ax, picture in zip(axes[row], pictures):
        ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    axes[row, 0].set_ylabel(name)
figure.suptitle("Digits and two views of each")
figure.tight_layout()
plt.show()

"""
## Training

`kr.models.MultiView` makes the views, encodes them and gives them to the loss. A projector, which is thrown away after,
takes the loss' wishes away from the features. `fit(x)` needs no labels. `NTXent` is the loss of SimCLR; `VICReg` has no
negatives and keeps features varied instead.
"""


def encoder():
    hidden = [layers.Dense(256, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((8, 8)), layers.Flatten(), *hidden, layers.Dense(64)])


def projector():
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(128, activation="relu"), layers.Dense(64)]
    )


def train(loss, with_projector=True):
    """The features of images and test images, and the history."""
    keras.utils.set_random_seed(0)
    head = projector() if with_projector else None
    model = kr.models.MultiView(encoder(), augmentation(), projector=head)
    model.compile(keras.optimizers.Adam(0.001), loss)
    quality = kr.callbacks.RepresentationQuality(x[few], y[few], x_test, y_test, every=5)
    history = model.fit(x, batch_size=256, epochs=EPOCHS, callbacks=[quality], verbose=0).history
    return model.predict(x, verbose=0), model.predict(x_test, verbose=0), history


def probe(features, test_features):
    """Accuracies of a linear classifier with three labels per digit, and with all."""
    return [
        kr.analysis.linear_probe(features[rows], y[rows], test_features, y_test, l2=1e-2).accuracy
        for rows in (few, np.arange(len(x)))
    ]


keras.utils.set_random_seed(0)
untrained = encoder()
found = {
    "pixels": (x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)),
    "untrained encoder": tuple(untrained.predict(part, verbose=0) for part in (x, x_test)),
}
histories = {}
for name, loss in (("NTXent", kr.losses.NTXent(0.5)), ("VICReg", kr.losses.VICReg())):
    *features, histories[name] = train(loss)
    found[name] = tuple(features)

"""
## What the features are good for

`kr.analysis.linear_probe` fits a linear classifier on given features, the usual measure.
"""

print(f"{'':20s}  30 labels  1297 labels")
scores = {}
for name, (features, test_features) in found.items():
    scores[name] = probe(features, test_features)
    print(f"{name:20s} {scores[name][0]:10.3f} {scores[name][1]:12.3f}")
pixels, contrastive = scores["pixels"][0], scores["NTXent"][0]

"""
With 30 labels a linear classifier on pixels has {pixels:.1%} of the test digits right, on features that were learnt
without labels {contrastive:.1%}. With all labels there is nothing left to gain on data this easy.

Neighbours show the difference. To the left a test digit, then the images that are nearest by pixels, and by features.
"""

nearest = {}
for name in ("pixels", "NTXent"):
    features, test_features = found[name]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = (test_features / np.linalg.norm(test_features, axis=1, keepdims=True)) @ unit.T
    nearest[name] = np.argsort(-cosine, axis=1)[:, :5]
hard = np.flatnonzero((y[nearest["pixels"]] != y_test[:, None]).sum(axis=1) >= 2)[:5]
figure, axes = plt.subplots(len(hard), 12, figsize=(10, 4.6))
for row, index in zip(axes, hard):
    pictures = [x_test[index], *x[nearest["pixels"][index]], None, *x[nearest["NTXent"][index]]]
    names = [y_test[index], *y[nearest["pixels"][index]], None, *y[nearest["NTXent"][index]]]
    for ax, picture, name in zip(row, pictures, names):
        ax.set(xticks=[], yticks=[])
        if picture is None:
            ax.axis("off")
            continue
        ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
        for side in ax.spines.values():
            side.set(color="tab:green" if name == y_test[index] else "tab:red", linewidth=2)
axes[0, 3].set_title("nearest by pixels", size=10)
axes[0, 9].set_title("nearest by features", size=10)
axes[0, 0].set_title("test", size=10)
figure.tight_layout()
plt.show()

"""
## A map of the features

t-SNE is a pair of neighbour distributions too: `kr.losses.ICon.preset("tsne")`. Here it places 500 test digits by a network
of two outputs, from pixels and from features.
"""


def embed(inputs):
    """Places in the plane of standardised inputs."""
    keras.utils.set_random_seed(0)
    inputs = (inputs - inputs.mean(axis=0)) / (inputs.std() + 1e-6)
    inputs = inputs.astype("float32")
    hidden = [layers.Dense(256, activation="relu") for _ in range(2)]
    network = keras.Sequential([keras.Input(inputs.shape[1:]), *hidden, layers.Dense(2)])
    network.compile(keras.optimizers.Adam(0.003), kr.losses.ICon.preset("tsne", perplexity=20.0))
    network.fit(inputs, inputs, batch_size=len(inputs), epochs=EPOCHS, verbose=0)
    return network.predict(inputs, verbose=0)


figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for ax, name in zip(axes, ("pixels", "NTXent")):
    places = embed(found[name][1])
    drawn = ax.scatter(*places.T, c=y_test, cmap="tab10", s=12)
    ax.set(title=f"test digits by {name}", xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes, ticks=range(10), label="digit")
plt.show()

"""
## Collapse

Equal features for all images make views equal too. A loss that only draws views together, `kr.losses.Alignment`, ends there.
`kr.callbacks.RepresentationQuality` sees it: `feature_std` says how far features of length 1 vary, `effective_rank` how many
directions they use. The loss alone does not: it falls best where nothing is learnt.
"""

_, _, histories["Alignment"] = train(kr.losses.Alignment(), with_projector=False)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
for name, history in histories.items():
    for ax, key in zip(axes, ("feature_std", "effective_rank", "probe_accuracy")):
        epochs = 5 * np.arange(1, 1 + len(history.get(key, [])))
        ax.plot(epochs, history.get(key, []), label=name, marker=".")
        ax.set(title=key, xlabel="epoch", ylim=(0, None))
axes[0].legend()
figure.suptitle("With and without collapse, measured on 30 labelled images")
figure.tight_layout()
plt.show()
for name, history in histories.items():
    print(f"{name:10s} loss {history['loss'][0]:7.4f} at first, {history['loss'][-1]:7.4f} at last")

"""
## What to choose

- **Loss**: `NTXent` with large batches; `VICReg` or `BarlowTwins` with small ones and a wide projector;
  `SupCon` where there are labels for all; `InfoNCE` for two encoders, such as of images and text.
- **Without negatives**, averages keep from collapse: `kr.models.MomentumViews` with `kr.losses.Alignment` is BYOL.
- **Augmentation** matters more than the loss. What it changes is forgotten: do not rotate digits by 180°.
- **Watch** the probe with a few labels, not the loss.
"""
