"""
# Fine-tuning in two phases

The usual way to adapt a network of `keras.applications` to few images of one's own: freeze it and train a new head,
then unfreeze it and train everything a little, at a small learning rate. In the second phase nothing keeps the network
near what it had learnt; `kr.models.WeightPenalty` does, by anchoring the weights where they were when the phase began.
This guide runs both phases, the second with and without anchors.

**Use this when** you have a pretrained network and some dozens or hundreds of labelled images.

**Do not when** you have so many images that training from scratch does as well: what the anchors keep is then in the way.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 15
HEAD_EPOCHS = 2 * EPOCHS
ANCHOR = 0.1

"""
## Data, and a network that knows other things

Digits of scikit-learn, enlarged to 32 × 32 pixels, the least that `MobileNet` takes. To run without a network connection
the backbone begins at random and learns to tell 0 to 4 apart; that stands in for what a photograph's thousand classes
teach. In earnest this is one line, and no training:
`backbone = keras.applications.MobileNet(weights="imagenet", include_top=False, pooling="avg")`.
"""

images, digits = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(digits))
images, digits = images[order].reshape(-1, 8, 8, 1), digits[order]
images = np.tile(images.repeat(4, axis=1).repeat(4, axis=2), 3).astype("float32") / 8 - 1

keras.utils.set_random_seed(0)
backbone = keras.applications.MobileNet(
    weights=None, input_shape=(32, 32, 3), alpha=0.25, include_top=False, pooling="avg"
)
for layer in backbone.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.9  # Its averages have only some dozens of steps to settle here.
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

known = digits < 5
teacher = keras.Sequential([backbone, keras.layers.Dense(5)])
teacher.compile(keras.optimizers.Adam(0.01), crossentropy, metrics=["accuracy"])
teacher.fit(images[known], digits[known], batch_size=100, epochs=EPOCHS, verbose=0)

x, y = images[~known], digits[~known] - 5
x_train, y_train, x_test, y_test = x[:60], y[:60], x[60:], y[60:]
print(f"{len(x_train)} training images of the new classes, {len(x_test)} test images")

"""
## Phase 1: the head

The backbone is frozen and runs in inference mode (`training=False`), so that the statistics of its batch normalization
stay those of the first task, also when it is unfrozen later.
"""

backbone.trainable = False
inputs = keras.Input((32, 32, 3))
features = backbone(inputs, training=False)
network = keras.Model(inputs, keras.layers.Dense(5, name="head")(features))
network.compile(keras.optimizers.Adam(0.01), crossentropy, metrics=["accuracy"])
network.fit(x_train, y_train, batch_size=20, epochs=HEAD_EPOCHS, verbose=0)
_, head_only = network.evaluate(x_test, y_test, batch_size=len(x_test), verbose=0)
print(f"head alone: accuracy {head_only:.1%}")

"""
## Phase 2: everything, a little

Set `trainable` first, then wrap and compile: `WeightPenalty` anchors what is trainable when it is made, at the values of
that moment. The head is left out by name, as it has only just begun. The penalty is the squared distance to
the anchors (L2-SP), and any other regularizer or function of the differences may stand in its place.

The other wrappers follow what is trainable as well: `SAM` climbs along those weights, and `LookSAM` makes its memory for
the backbone when it is unfrozen and compiled again.
"""

backbone.trainable = True
start = network.get_weights()


def anchored(network):
    penalty = keras.regularizers.L2(ANCHOR)
    where = kr.utils.AllBut(["head"])
    return kr.models.WeightPenalty(network, penalty, where=where, anchors="plain")


accuracy, moved = {"head alone": head_only}, {"head alone": 0.0}
for name, wrap in {"plain": lambda network: network, "anchored": anchored}.items():
    network.set_weights(start)
    model = wrap(network)
    model.compile(keras.optimizers.Adam(0.001), crossentropy, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=20, epochs=EPOCHS, verbose=0)
    _, accuracy[name] = model.evaluate(x_test, y_test, batch_size=len(x_test), verbose=0)
    moved[name] = sum(np.sum((a - b) ** 2) for a, b in zip(network.get_weights(), start)) ** 0.5
    print(f"{name:9s} accuracy {accuracy[name]:.1%}, weights moved by {moved[name]:.2f}")

accuracy_plain, accuracy_anchored = accuracy["plain"], accuracy["anchored"]
moved_plain, moved_anchored = moved["plain"], moved["anchored"]

plt.figure(figsize=(5, 3))
plt.bar(list(accuracy), list(accuracy.values()))
plt.ylabel("accuracy on test images")
plt.tight_layout()
plt.show()

"""
Trained freely the weights moved by {moved_plain:.2f}, with anchors by {moved_anchored:.2f}; the accuracy on test images
became {accuracy_plain:.1%} and {accuracy_anchored:.1%}. Anchors keep what a backbone knows, and this stand-in knows
little that the new digits need: they are for a backbone that you trust. Choose their strength, `ANCHOR` here, on validation
images. `network` is what was trained: save it, or the wrapper, whose file holds the anchors too.
"""
