"""
# Variational autoencoders that weigh their terms

A variational autoencoder learns to draw data like its own. Its loss has two terms: how well data are reconstructed, and how far
codes are from standard normal ones, from which new data are drawn. With the wrong weight between them it draws blurs, or
reconstructs well and draws nonsense. The weight is the variance of what the decoder gets wrong, and that can be measured.
This guide trains one network with several weights, looks at what they draw, and measures it.

**Use this when** you want to generate, compress or interpolate data with a network of moderate size that trains in minutes
and encodes data too, and you do not want to tune the weight of the divergence.

**Do not when** pictures have to look real in every detail: GANs and diffusion models draw sharper ones, with far larger
networks and longer training.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 40

"""
## Digits

1797 images of 8 × 8 pixels, values between 0 and 1, codes of eight numbers. The encoder gives a list of mean and
log-variance, the decoder takes a code.
"""

x, labels = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
train, test = x[:1400], x[1400:]


def parts():
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    inputs = keras.Input((64,))
    hidden = dense(128, "relu")(inputs)
    encoder = keras.Model(inputs, [dense(8)(hidden), dense(8)(hidden)])
    decoder = [keras.Input((8,)), dense(128, "relu"), dense(64, "sigmoid")]
    return encoder, keras.Sequential(decoder)


BALANCES = {
    "variance 1": None,
    "computed": "computed",
    "learned": "learned",
    "optimal": "optimal",
}
models, histories = {}, {}
for name, balance in BALANCES.items():
    model = kr.models.VAE(*parts(), balance=balance, momentum=0.9, seed=1)
    model.compile(keras.optimizers.Adam(0.005))
    histories[name] = model.fit(train, batch_size=100, epochs=EPOCHS, verbose=0).history
    models[name] = model

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for name, history in histories.items():
    axes[0].plot(history["mean_squared_error"], label=name)
    axes[1].plot(history["kl_divergence"], label=name)
axes[0].set_title("Mean squared error in training", fontsize=10)
axes[1].set_title("Divergence of the codes, nats", fontsize=10)
for axis in axes:
    axis.set_xlabel("epoch")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False)
figure.tight_layout()
plt.show()

"""
With the variance 1 the divergence is near 0: codes say nothing, and every reconstruction is nearly the same. Errors of
pixels between 0 and 1 are so small beside that variance that a code does not pay for itself. The other three find a variance
of about the error that they make, and use the code.

`"computed"` keeps a running mean of the error that never rises, `"optimal"` takes the error of each batch, and
`"learned"` trains the variance by gradient descent, which has to come a long way from 1. The first two have nothing to train.
"""

errors = {}
for name, model in models.items():
    errors[name] = model.evaluate(test, verbose=0, return_dict=True)["mean_squared_error"]
    print(f"{name:12s} error on new digits {errors[name]:.4f}")
computed = models["computed"].reconstruction_variance
reached = histories["computed"]["mean_squared_error"][-1]
print(f"computed variance {computed:.4f}, error in training {reached:.4f}")

"""
## What they draw

`predict` reconstructs from the mean code, `sample` decodes standard normal codes.
"""


def draw(axis, images, title):
    framed = np.pad(np.reshape(images, (10, 8, 8)), ((0, 0), (1, 1), (1, 1)))
    axis.imshow(framed.transpose(1, 0, 2).reshape(10, 100), cmap="gray_r", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


shown = {name: models[name] for name in ("variance 1", "computed", "optimal")}
figure, axes = plt.subplots(len(shown) + 1, 2, figsize=(9, 3.6))
draw(axes[0, 0], test[:10], "New to the model")
draw(axes[0, 1], train[:10], "Trained on")
for row, (name, model) in zip(axes[1:], shown.items()):
    draw(row[0], model.predict(test[:10], verbose=0), f"{name}: reconstructions")
    draw(row[1], array(model.sample(10, seed=3)), f"{name}: new digits")
figure.tight_layout()
plt.show()

"""
## Measured

Eyes are easily deceived. `metrics.FrechetDistance` compares means and covariances of features, here those of a classifier
that was trained on the digits: the lower, the more alike. How low it can be for as many samples is what the held-out
digits have against the training digits.
"""

keras.utils.set_random_seed(0)
hidden = [keras.layers.Dense(64, "relu"), keras.layers.Dense(16, "tanh", name="features")]
classifier = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
classifier.compile(keras.optimizers.Adam(0.005), loss, metrics=["accuracy"])
classifier.fit(train, labels[:1400], batch_size=100, epochs=EPOCHS // 3 + 1, verbose=0)
features = keras.Model(classifier.inputs, classifier.get_layer("features").output)


def distance(images):
    metric = kr.metrics.FrechetDistance(features)
    metric.update_state(train, images)
    return float(metric.result())


distances = {name: distance(array(model.sample(397, seed=4))) for name, model in models.items()}
distances["held-out digits"] = distance(test)
for name, value in distances.items():
    print(f"{name:16s} {value:6.3f}")

"""
## Weights of your own

`kl_weight` multiplies the divergence. With more than 1 on top of a balance codes come closer to the prior, and reconstructions
lose: an error of {heavy:.4f} with the weight 3, where it was {usual:.4f} with 1. `KLAnnealing` begins without the divergence, and `free_bits` leave some of it free: both are against
codes that say nothing, which a balance mends by itself here. They matter with decoders that can do without the code, such as
recurrent ones.
"""

usual = errors["computed"]
print(f"weight 1.0: error {usual:.4f}, distance {distances['computed']:6.3f}")
for weight in (0.3, 3.0):
    model = kr.models.VAE(*parts(), balance="computed", kl_weight=weight, momentum=0.9, seed=1)
    model.compile(keras.optimizers.Adam(0.005))
    annealing = kr.callbacks.KLAnnealing(warmup_epochs=max(1, EPOCHS // 4))
    model.fit(train, batch_size=100, epochs=EPOCHS, callbacks=[annealing], verbose=0)
    error = model.evaluate(test, verbose=0, return_dict=True)["mean_squared_error"]
    drawn = distance(array(model.sample(397, seed=4)))
    print(f"weight {weight:.1f}: error {error:.4f}, distance {drawn:6.3f}")
heavy = error

"""
## A way from one digit to another

Codes of a variational autoencoder lie close to each other, so that what is between two of them means something too.
"""

model = models["computed"]
codes = array(model.encode(test))
first, last = (
    codes[np.flatnonzero(labels[1400:] == 3)[0]],
    codes[np.flatnonzero(labels[1400:] == 8)[0]],
)
share = np.linspace(0, 1, 10, dtype="float32")[:, None]
between = array(model.decode((1 - share) * first + share * last))
figure, axis = plt.subplots(figsize=(9, 1.1))
draw(axis, between, "From a 3 to an 8")
plt.show()
