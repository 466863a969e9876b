"""
# Weights and architecture at once

How many units a network has is no number with a gradient. This guide makes it one: it looks for networks of few units that
follow a parabola and a sine, by gradient descent on a vector that stands for a whole network, and compares what it finds with
the simple way, a penalty on the size of units in a network that is trained as usual.

**Use this when** a function of one or two inputs is to become a formula of a few units: for a microcontroller, or to be read.

**Do not when** there are many inputs or the data are large: the vector has all weights of the largest network that is
allowed. There [zeros in a trained network](sparse_networks.md) go a long way.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_regularize as kr

EPOCHS = 40
STEPS = 600
REPEATS = 4
UNITS = 8

line = np.linspace(-1, 1, 32)
columns = line[:, None].astype("float32")
curves = {"parabola": line**2, "sine": np.sin(np.pi * line)}

"""
## Networks as vectors

`NetworkAutoencoder` learns from random networks: it turns the weights of each into a short vector, and the vector into
the weights of a network that computes the same. Each unit has a gate besides, so that a network of eight units stands for
all smaller ones. `search_network` then moves such vectors to where the networks fit the data and few of their weights are
above a threshold, which is learnt as well. It moves several at a time and keeps the best. What is below the threshold is cut
off, and a Keras model of the units that are left comes out.
"""

autoencoder = kr.hyper.NetworkAutoencoder(units=UNITS, depths=(1,))
autoencoder.fit(num_networks=640, epochs=EPOCHS, points=32)


def searched(y):
    found = kr.hyper.search_network(
        autoencoder, line, y, sparsity=3e-3, steps=STEPS, restarts=16, learning_rate=0.3
    )
    return found.active_neurons[0], found.model.predict_on_batch(columns)[:, 0]


"""
## The simple ways

`AccordionBlock` is a layer of as many units with a penalty on what each of them contributes, the product of its weights in
and out, which presses small ones to zero. A unit counts if it is above a hundredth of the largest.

And who knows how many units are enough trains a network of so many, a few times, and keeps the best.
"""


def trained(layers, y, seed):
    keras.utils.set_random_seed(seed)
    net = keras.Sequential([keras.Input((1,)), *layers])
    net.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, STEPS)), "mse")
    for _ in range(STEPS):
        net.train_on_batch(columns, y[:, None])
    return net, net.predict_on_batch(columns)[:, 0]


def penalized(y, factor):
    net, outputs = trained([kr.layers.AccordionBlock(UNITS, 1, factor)], y, seed=0)
    first, bias, second, _ = net.get_weights()
    size = np.hypot(first[0], bias) * np.abs(second[:, 0])
    return np.count_nonzero(size > 0.01 * size.max()), outputs


def direct(y, count):
    runs = []
    for seed in range(REPEATS):
        layers = [keras.layers.Dense(count, "tanh"), keras.layers.Dense(1)]
        runs.append(trained(layers, y, seed)[1])
    return count, min(runs, key=lambda outputs: np.mean((outputs - y) ** 2))


"""
## Side by side

Errors are relative to the variance of the curve.
"""

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
print(f"{'':10s}{'':16s} units   error")
units, errors = {}, {}
for axis, (curve, y) in zip(axes, curves.items()):
    rows = {f"penalty {factor:g}": penalized(y, factor) for factor in (1e-3, 3e-3, 1e-2)}
    rows["search_network"] = searched(y)
    rows["directly"] = direct(y, max(1, rows["search_network"][0]))
    axis.plot(line, y, color="black", lw=0.8, ls=":", label=curve)
    for name, (count, outputs) in rows.items():
        units[curve, name] = count
        errors[curve, name] = np.mean((outputs - y) ** 2) / y.var()
        print(f"{curve:10s}{name:16s} {count:5d}  {errors[curve, name]:.4f}")
        if name in ("penalty 0.01", "search_network"):
            axis.plot(line, outputs, label=f"{name}: {count} units")
    axis.set_title(curve, fontsize=10)
    axis.set_xlabel("x")
    axis.set_ylabel("y")
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

found, few = units["parabola", "search_network"], units["sine", "search_network"]
pressed = units["sine", "penalty 0.003"]
error, directly = errors["sine", "search_network"], errors["sine", "directly"]
pressed_error = errors["sine", "penalty 0.003"]

"""
The search ends with {found:d} units for the parabola and {few:d} for the sine, whose error is {error:.4f}. The penalty leaves
{pressed:d} units at an error of {pressed_error:.4f}, and costs accuracy before it has pressed more of them away: it makes units
small, and few only by the way. Its units are those of a ReLU network, of which a round curve needs more.

Whoever knows the number of units needs no search: a network of {few:d} units, the best of a few runs, has an error of
{directly:.4f}. What the search adds is the number.
"""
