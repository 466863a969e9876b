"""
# Fast adversarial training without the collapse

Adversarial training with several attack steps per batch is expensive. A single step costs a third, and often suffices;
but at larger radii it can fail in a way that its own numbers hide. The network learns to bend its loss just where that
one step goes: accuracy under the attack it trains with rises, while under a slightly stronger attack it falls to zero.
This is *catastrophic overfitting*. This guide brings it about on scikit-learn's digits, enlarged to 16×16 pixels, and
shows three ways out. It runs unchanged on JAX, TensorFlow and PyTorch (`KERAS_BACKEND`).

**Use this when** [adversarial training](adversarial_training.md) with several attack steps is too slow.

**Do not when** there is time for several steps, or nobody measures with a stronger attack: the collapse does not show in
the training's own numbers.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 16

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x = np.kron(x.reshape(-1, 8, 8, 1) / 16, np.ones((1, 2, 2, 1))).astype("float32")
x, y = x[order], y[order]
x_train, y_train, x_test, y_test = x[:1300], y[:1300], x[1300:1600], y[1300:1600]

"""
## Four ways to train with one attack step

The radius is a quarter of the grey scale. Starting the step from a random point of the ball costs nothing. `ELLE` asks
that the loss be linear between random points of the ball, `GradAlign` that its gradient point the same way all over it.
The first needs a pass over three more batches, the second a second derivative.
"""

EPSILON = 0.25
single_step = kr.attacks.FGSM(EPSILON, bounds=None)
random_start = kr.attacks.PGD(EPSILON, step_size=1.25 * EPSILON, steps=1, bounds=None, seed=0)

METHODS = {
    "FGSM": lambda net: kr.models.AdversarialTraining(net, single_step),
    "FGSM, random start": lambda net: kr.models.AdversarialTraining(net, random_start),
    "ELLE": lambda net: kr.models.ELLE(net, EPSILON, factor=1000.0, seed=0),
    "GradAlign": lambda net: kr.models.GradAlign(net, single_step, factor=0.5, seed=0),
}


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


"""
## What the training sees, and what it does not

After every second epoch we measure accuracy on test images under the attack of the training, and under ten steps of
`PGD` in the same ball.
"""

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
stronger = kr.attacks.PGD(EPSILON, step_size=0.06, steps=10, bounds=None, seed=0)
seen, robust = {}, {}
for name, wrap in METHODS.items():
    net = network()
    model = wrap(net)
    model.compile(keras.optimizers.Adam(2e-3), crossentropy)
    seen[name], robust[name] = [], []
    for _ in range(0, EPOCHS, 2):
        model.fit(x_train, y_train, batch_size=50, epochs=2, verbose=0)
        for curve, attack in ((seen[name], single_step), (robust[name], stronger)):
            accuracy = kr.analysis.robust_accuracy(model, x_test, y_test, attack, batch_size=300)
            curve.append(accuracy)
    print(f"{name:20s} under one step {seen[name][-1]:.2f}, under ten {robust[name][-1]:.2f}")

"""
Plain single-step training ends with the best accuracy under the attack it knows, and with next to none under the
stronger one. Its curve on the left gives no hint. The others learn more slowly and do not collapse, though `GradAlign`
loses some of what it gained. The two factors were chosen of two tries each, on these images and one seed.
"""

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
epochs = 2 * np.arange(1, len(robust["FGSM"]) + 1)
for axis, curves, title in zip(axes, (seen, robust), ("one attack step (FGSM)", "ten steps (PGD)")):
    for name, curve in curves.items():
        axis.plot(epochs, curve, marker=".", label=name)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch")
    axis.set_ylim(0, 1)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("accuracy on test images under")
axes[1].legend(frameon=False, fontsize=9)
figure.tight_layout()
plt.show()

"""
## Practical advice

- Never judge single-step training by the attack it trains with. `kr.analysis.robust_accuracy` with a `PGD` of ten
  steps on a few hundred validation images shows the collapse as it happens.
- Try the random start first: it is free, and best here. It moves the collapse to larger radii and longer training and
  does not rule it out; where it fails, a penalty is what is left at this price.
- `ELLE(..., adaptive=True)` turns its penalty on when the linearity error jumps, which saves the choice of a factor
  at small radii.
- With time for it, `AdversarialTraining(net, kr.attacks.PGD(...))` is still the reference.
"""
