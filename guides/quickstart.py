"""
# Quickstart

Keras Regularize adds to what you already pass to Keras: a loss, a regularizer, a constraint, a layer, a metric, an
optimizer, and wrappers that change the train step. Each is an ordinary Keras object. This guide uses one of each
on scikit-learn's digits, 8×8 images of handwriting; it runs unchanged on JAX, TensorFlow and PyTorch
(`KERAS_BACKEND`).

**Use this when** you know Keras and want to see what the package adds to it, one example of each kind.

**Do not when** you are looking for one method: the [catalog](../catalog.md) lists all of them with their formulas, and
the other guides compare those that belong together.
"""

import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 15

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:1000], y[:1000], x[1000:], y[1000:]


def network(**options):
    """Two hidden layers; `options` go to the second."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu", **options),
            keras.layers.Dense(10),
        ]
    )


crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

"""
## A loss and a metric

`MaxSup` is a label smoothing that does not push a label down where the model is wrong. A loss goes where losses
go. `ExpectedCalibrationError` says how far confidence is from accuracy: smoothing lowers the confidence, on a task
as easy as this one below the accuracy.
"""


def calibration():
    return kr.metrics.ExpectedCalibrationError(from_logits=True, name="calibration")


for loss in (crossentropy, kr.losses.MaxSup(factor=0.1)):
    model = network()
    model.compile("adam", loss, metrics=["accuracy", calibration()])
    model.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0)
    result = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    print(
        f"{loss.name:36s} accuracy {result['accuracy']:.3f}, "
        f"calibration error {result['calibration']:.3f}"
    )

"""
## A regularizer and a constraint

Both go where Keras takes them, as an argument of a layer. `MHE` makes the filters of a layer point in different
directions; `SoftThreshold` moves every weight a little towards zero after each step, and leaves it there.
"""

model = network(
    kernel_regularizer=kr.regularizers.MHE(0.1),
    kernel_constraint=kr.constraints.SoftThreshold(1e-4),
)
model.compile("adam", crossentropy, metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0)
kernel = model.layers[1].get_weights()[0]
print(f"weights of the second layer that are exactly zero: {np.mean(kernel == 0):.1%}")

"""
A model that exists already, a pretrained one, say, has no such argument left to fill. `attach` fills it afterwards, for
the variables you name. The penalty counts at once, and is saved with the model.
"""

pretrained = network()
kr.regularizers.attach(pretrained, keras.regularizers.L2(1e-3), where="kernel")
pretrained.compile("adam", crossentropy)
print("penalties:", len(pretrained.losses))

"""
## A layer

`Cutout` blanks a square of each image while training, and passes images through otherwise.
"""

keras.utils.set_random_seed(0)
convolutional = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Reshape((8, 8, 1)),
        kr.layers.Cutout(length=3, seed=0),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
convolutional.compile("adam", crossentropy, metrics=["accuracy"])
convolutional.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0)
result = convolutional.evaluate(x_test, y_test, verbose=0, return_dict=True)
print(f"with cutout: accuracy {result['accuracy']:.3f}")

"""
## An optimizer

Gradient descent on an L1 penalty makes weights small, never zero. `Proximal` wraps any Keras optimizer and takes
the penalty's own step after it, which does reach zero. Here a linear classifier is trained with either.
"""


def linear_classifier(optimizer, regularizer=None):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(10, kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((64,)), dense])
    model.compile(optimizer, crossentropy, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=50, epochs=2 * EPOCHS, verbose=0)
    accuracy = model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
    return dense.get_weights()[0], accuracy


sgd = keras.optimizers.SGD
kernels = {
    "L1 penalty": linear_classifier(sgd(0.2), keras.regularizers.L1(4e-3)),
    "Proximal": linear_classifier(kr.optimizers.Proximal(sgd(0.2), factor=4e-3)),
}
for name, (kernel, accuracy) in kernels.items():
    print(
        f"{name:10s} {np.mean(kernel == 0):4.0%} of the weights are zero, accuracy {accuracy:.3f}"
    )

"""
These are the weights as ten images, one per digit; exact zeros are grey.
"""

figure, axes = plt.subplots(2, 10, figsize=(9, 2.2))
colors = plt.colormaps["RdBu"].with_extremes(bad="0.8")
for row, (name, (kernel, _)) in zip(axes, kernels.items()):
    for digit, axis in enumerate(row):
        image = np.ma.masked_equal(kernel[:, digit].reshape(8, 8), 0)
        axis.imshow(image, cmap=colors, vmin=-1, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Weight images of the two classifiers", fontsize=10)
figure.tight_layout()
plt.show()

"""
## A train step

Some methods change neither the loss nor the weights but how a step is taken. They wrap a model, and the result is a model
again. `SAM` descends with the gradient at the worst weights nearby, which costs a second pass. It pays where
data tempt a model to memorize: here half the training labels are random.
"""

generator = np.random.default_rng(0)
random_label = generator.random(len(y_train)) < 0.5
y_noisy = np.where(random_label, generator.integers(0, 10, len(y_train)), y_train)

figure, axis = plt.subplots(figsize=(6, 3.2))
for name, model in {"plain": network(), "SAM": kr.models.SAM(network(), rho=0.3)}.items():
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), crossentropy, metrics=["accuracy"])
    history = model.fit(
        x_train,
        y_noisy,
        batch_size=50,
        epochs=3 * EPOCHS,
        validation_data=(x_test, y_test),
        validation_batch_size=len(x_test),
        verbose=0,
    ).history
    print(f"{name:5s} test accuracy {history['val_accuracy'][-1]:.3f}")
    (line,) = axis.plot(history["val_accuracy"], label=f"{name}: test")
    axis.plot(history["accuracy"], "--", color=line.get_color(), label=f"{name}: noisy training")
axis.set_title("half of the training labels random", fontsize=10)
axis.set_xlabel("epoch")
axis.set_ylabel("accuracy")
axis.set_ylim(0, 1)
axis.legend(loc="lower right", frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
Wrappers nest and read as they act. `SAM(VAT(model))` finds a virtual adversarial direction once a step, and takes
the sharpness-aware gradient of the loss with that penalty. `VAT` learns from unlabelled samples too: integer labels
of −1, in the same arrays. The plain model sees its 50 labelled samples as often as to make as many steps.
"""

rows = np.arange(len(y_train)) % 50
model = network()
model.compile(keras.optimizers.Adam(3e-3), crossentropy, metrics=["accuracy"])
model.fit(x_train[rows], y_train[rows], batch_size=50, epochs=2 * EPOCHS, verbose=0)
result = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
print(f"50 labels: accuracy {result['accuracy']:.3f}")

y_few = np.where(np.arange(len(y_train)) < 50, y_train, -1)
model = kr.models.SAM(kr.models.VAT(network(), epsilon=0.5), rho=0.05)
model.compile(keras.optimizers.Adam(3e-3), crossentropy, metrics=["accuracy"])
model.fit(x_train, y_few, batch_size=50, epochs=2 * EPOCHS, verbose=0)
result = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
print(f"50 labels and 950 unlabelled samples: accuracy {result['accuracy']:.3f}")

"""
## Saving and loading

Everything is registered with Keras, so files load without `custom_objects` and with safe mode on. A saved wrapper
brings the wrapped model along, which is also there, trained and plain, as `model.model`.
"""

with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/quickstart.keras")
    restored = keras.saving.load_model(f"{folder}/quickstart.keras")
difference = restored.predict(x_test, verbose=0) - model.predict(x_test, verbose=0)
print(f"{type(restored).__name__}({type(restored.model).__name__}(…)) restored,", end=" ")
print(f"largest difference {np.max(np.abs(difference)):.1e}")

plain = model.model.model
print("the network itself:", type(plain).__name__, plain.count_params(), "weights")

"""
## Where to go from here

- [Write your own train step](write_your_own_train_step.md): a new method in about fifteen lines.
- The [catalog](../catalog.md) lists everything there is; each entry has its formula, cost and source.
"""
