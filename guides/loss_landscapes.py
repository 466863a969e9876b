"""
# Loss landscapes

A loss is a function of all weights of a network, thousands or millions of them. A picture shows two dimensions. This
guide draws those pictures that say something, and shows for each what it takes: planes around a minimum, lines that
compare how wide two minima are, the plane in which a training moved, and the way from one network to another. It runs
unchanged on JAX, TensorFlow and PyTorch (`KERAS_BACKEND`).

**Use this when** you want to see why one network trains and another does not, whether two trainings found the same
valley, or whether their weights may be averaged.

**Do not when** you want a number to choose models by: that is what a validation set is for. How wide a valley looks
depends on the scale of the weights, and a plane of two dimensions leaves out all others.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 20
POINTS = 25  # Along each axis of a surface.

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:1297], y[:1297], x[1297:], y[1297:]

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
accuracy = keras.metrics.SparseCategoricalAccuracy

"""
## Why residual networks train

Two networks of 17 hidden layers and equal sizes; in one of them every second layer adds its input to its output.
"""


def deep_network(skips):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(16, "relu")(inputs)
    for _ in range(8):
        block = keras.layers.Dense(16, "relu")(hidden)
        block = keras.layers.Dense(16)(block)
        block = keras.layers.add([block, hidden]) if skips else block
        hidden = keras.layers.Activation("relu")(block)
    return keras.Model(inputs, keras.layers.Dense(10)(hidden))


networks = {"without skips": deep_network(False), "with skips": deep_network(True)}
for name, net in networks.items():
    net.compile(keras.optimizers.Adam(1e-3), crossentropy, metrics=[accuracy("accuracy")])
    net.fit(x_train, y_train, batch_size=64, epochs=2 * EPOCHS, verbose=0)
    loss, hits = net.evaluate(x_test, y_test, batch_size=500, verbose=0)
    print(f"{name:14s} test loss {loss:.2f}, accuracy {hits:.3f}")

"""
`loss_surface` walks from the trained weights along two random directions and evaluates the loss at every point of a
grid, with one compiled program. Each direction is scaled filter by filter to the weights it is added to.
"""

some = slice(0, 256)  # Of the training samples: enough for the shape.
surfaces = {
    name: kr.analysis.loss_surface(
        net, x_train[some], y_train[some], steps=POINTS, batch_size=256, seed=1
    )
    for name, net in networks.items()
}

figure = plt.figure(figsize=(9, 7.2))
figure.suptitle("training loss around the minimum, in two random directions", fontsize=11)
for i, (name, surface) in enumerate(surfaces.items()):
    axis = figure.add_subplot(2, 2, i + 1, projection="3d")
    surface.plot(axis, kind="surface", log=True)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel("")
    axis.set_ylabel("")
    axis = figure.add_subplot(2, 2, i + 3)
    surface.plot(axis, kind="contour", log=True)
    axis.set_xticks([-1, -0.5, 0, 0.5, 1])
figure.tight_layout()
plt.show()

"""
With skips the loss is a round bowl. Without them it is a gorge: narrow in one direction, bent, and with ridges beside
it. That network trains badly: after the same epochs its test accuracy is behind.

Is the bowl a bowl in the other directions too? `curvature_surface` has the smallest and the largest eigenvalue of the
Hessian at every point. Where their ratio is near 0, what does not curve upwards hardly curves at all.
"""

maps = {
    name: kr.analysis.curvature_surface(
        net,
        x_train[some],
        y_train[some],
        steps=min(POINTS, 7),
        max_iterations=10,
        batch_size=256,
        seed=1,
    )
    for name, net in networks.items()
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, (name, found) in zip(axes, maps.items()):
    found.plot(axis)
    axis.collections[0].set_clim(0, 1)
    axis.set_title(f"{name}: how far from convex", fontsize=10)
figure.tight_layout()
plt.show()

bent = {name: np.mean(found.ratio > 0.5) for name, found in maps.items()}
for name, part in bent.items():
    print(f"{name:14s} points with a ratio above 0.5: {part:.0%}")

"""
Around both minima the ratio is small; farther out, and without skips sooner, there are directions that curve downwards
nearly as much as others curve upwards.
"""

"""
## Is this minimum flatter than that?

A network of ReLUs computes the same with one layer multiplied by five and the next one divided by five. Here is one
network, written down in these two ways, and the loss along the same three random lines through both.
"""


def shallow_network(seed=0, rate=0.1):
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(10),
        ]
    )
    sgd = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-3)
    net.compile(sgd, crossentropy, metrics=[accuracy("accuracy")])
    return net


networks = {"batches of 32": shallow_network(), "one batch": shallow_network()}
for (name, net), size in zip(networks.items(), (32, len(x_train))):
    net.fit(x_train, y_train, batch_size=size, epochs=4 * EPOCHS, verbose=0)
    loss, hits = net.evaluate(x_test, y_test, batch_size=500, verbose=0)
    print(f"{name:14s} test loss {loss:.3f}, accuracy {hits:.3f}")

trained, rescaled = networks["batches of 32"], shallow_network()
factors = [5, 5, 1 / 5, 1, 1, 1]  # Of kernels and biases in turn.
rescaled.set_weights([w * factor for w, factor in zip(trained.get_weights(), factors)])


def draw_lines(axis, networks, norm, scale=1.0):
    styles = ({"color": "C0"}, {"color": "C1", "linestyle": "--"})
    for (name, net), style in zip(networks.items(), styles):
        for seed in range(3):
            direction = kr.analysis.random_direction(net, norm, seed=seed)
            direction = [scale * part for part in direction]
            line = kr.analysis.loss_surface(
                net, x_train, y_train, [direction], steps=POINTS, batch_size=1297
            )
            label = None if seed else name
            axis.plot(*line.coordinates, line.loss, alpha=0.8, label=label, **style)
    axis.set_xlabel("distance")
    axis.set_ylim(0, 2.5)
    axis.legend(frameon=False, fontsize=8, loc="upper center")
    axis.spines[["top", "right"]].set_visible(False)


same = {"one network": trained, "rescaled": rescaled}
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), sharey=True)
draw_lines(axes[0], same, None, scale=0.15)
axes[0].set_title("one network: equal steps", fontsize=10)
draw_lines(axes[1], same, "filter")
axes[1].set_title("one network: scaled by filter", fontsize=10)
draw_lines(axes[2], networks, "filter")
axes[2].set_title("two networks: scaled by filter", fontsize=10)
axes[0].set_ylabel("training loss")
figure.tight_layout()
plt.show()

"""
With equal steps, one of them sits in a narrow valley and the other in a wide one, though they are the same function.
With steps that are scaled filter by filter to the weights, as all functions here do by default, their lines are one.
Only so are the two networks on the right comparable: the one that was trained in small batches, which is better on the
test set too, lies in the wider valley.

## The way of a training

Two random directions show nothing of a training, whose steps are nearly orthogonal to them. `WeightTrajectory` keeps
the weights of every epoch, and `pca_trajectory` finds the plane in which they moved most.
"""

net = shallow_network(rate=0.01)
path = kr.callbacks.WeightTrajectory(frequency=10)  # Twice an epoch.
net.fit(x_train, y_train, batch_size=64, epochs=EPOCHS + 1, callbacks=[path], verbose=0)
plane = kr.analysis.pca_trajectory(path.weights)

figure, axis = plt.subplots(figsize=(6.4, 4.4))
plane.plot(net, x_train, y_train, axis, steps=POINTS, batch_size=1297)
axis.set_title("training loss in the plane of the training", fontsize=10)
figure.tight_layout()
plt.show()

share = plane.explained_variance_ratio.sum()

"""
The two directions hold {share:.0%} of all that the weights moved. The way begins where the loss is high, crosses the
contours, and then follows the floor of the valley.

## From one network to another

Two networks of different starts are both good, and half-way between them nothing works. Two that were trained
together for a while and then apart have hardly a barrier between them: they are in one valley, and their weights can
be averaged.
"""

first, other = shallow_network(seed=0), shallow_network(seed=1)
for net in (first, other):
    net.fit(x_train, y_train, batch_size=32, epochs=EPOCHS, verbose=0)
branch = shallow_network(seed=2)
branch.set_weights(first.get_weights())
first.fit(x_train, y_train, batch_size=32, epochs=EPOCHS, verbose=0)
branch.fit(x_train, y_train, batch_size=32, epochs=EPOCHS, verbose=0)

places = np.linspace(-0.5, 1.5, 2 * POINTS + 1)
ways = {
    "different starts": kr.analysis.interpolate(
        first, first.get_weights(), other.get_weights(), x_test, y_test, places, batch_size=500
    ),
    "a common first half": kr.analysis.interpolate(
        first, first.get_weights(), branch.get_weights(), x_test, y_test, places, batch_size=500
    ),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for axis, (name, way) in zip(axes, ways.items()):
    way.plot(axis)
    axis.set_title(f"{name}: barrier {way.barrier:.2f}", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("test loss")
axes[1].set_ylabel("")
figure.tight_layout()
plt.show()

barriers = {name: way.barrier for name, way in ways.items()}

"""
The barrier is {barriers["different starts"]:.2f} in the first case and {barriers["a common first half"]:.2f} in the second.
With batch normalization the statistics move along with the weights, by `variables="all"`, which is the default.

## Where to go from here

- [The Hessian of a network](hessian.md) has the numbers behind the pictures: eigenvalues, trace and spectrum.
- `loss_surface(metrics=[…])` adds metrics, `LossSurface.save` keeps a surface that took long.
- `kr.callbacks.StochasticWeightAveraging` averages the weights of one valley.
"""
