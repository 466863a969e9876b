"""
# A loss for a single neuron

A neuron with a flat activation learns badly from squared error: the slope of the activation is a factor of the
gradient, and where it is zero nothing is learnt, however wrong the answer. The matching loss of an activation $\\sigma$
leaves that factor away. Of the pre-activation $z$ and the target $y$ it is

$$\\ell(y, z) = \\int_0^z (\\sigma(t) - y)\\,dt, \\qquad \\frac{\\partial \\ell}{\\partial z} = \\sigma(z) - y,$$

convex in $z$, with its minimum where $\\sigma(z) = y$. For a sigmoid it is binary cross-entropy, which is why nobody trains
a logistic regression on squared error; `kr.losses.MatchingLoss` is the same idea for relu, tanh and others. Wang et
al. ([arXiv:2306.07892](https://arxiv.org/abs/2306.07892)) prove that plain gradient descent on it over a ball finds a neuron
about as good as the best one, even if labels were corrupted on purpose. This guide tries it.

**Use this when** the last layer is a neuron with an increasing activation whose value is the prediction, a relu or a tanh,
say.

**Do not when** the activation is sigmoid or softmax: there the matching loss is cross-entropy, which Keras has. Inside a
network, before other layers, there is no target to match.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_regularize as kr

EPOCHS = 15

"""
## The data

Inputs are Gaussian in 20 dimensions, targets $y = \\max(w^* \\cdot x, 0)$ with $w^*$ of length 2. One target in ten is
replaced by $-3$, a value that no relu can give.
"""

generator = np.random.default_rng(0)
truth = generator.normal(size=20)
truth = 2 * truth / np.linalg.norm(truth)
x = generator.normal(size=(2000, 20)).astype("float32")
y = np.maximum(x @ truth, 0).astype("float32")
y[generator.permutation(len(y))[: len(y) // 10]] = -3

"""
## Two ways to train it

The neuron is a `Dense` layer without bias, held in a ball by a constraint of Keras, and trained with plain SGD. The
matching loss is given the pre-activation, so there the layer has no activation; it comes back for predictions. Both
are trained from $w = 0$ and from three random starts.
"""


def neuron(loss, activation):
    layer = keras.layers.Dense(
        1,
        activation=activation,
        use_bias=False,
        kernel_constraint=keras.constraints.MaxNorm(3, axis=0),
    )
    model = keras.Sequential([keras.Input((20,)), layer])
    model.compile(keras.optimizers.SGD(0.05), loss)
    return model


def errors(model, start):
    """Distance to the true weights, relative to their length, before training and after every epoch."""
    model.set_weights([start[:, None]])
    found = [model.get_weights()[0][:, 0]]
    for _ in range(EPOCHS):
        model.fit(x, y, batch_size=100, verbose=0)
        found.append(model.get_weights()[0][:, 0])
    return np.linalg.norm(np.array(found) - truth, axis=1) / np.linalg.norm(truth)


keras.utils.set_random_seed(0)
models = {
    "MatchingLoss": neuron(kr.losses.MatchingLoss("relu"), None),
    "squared error": neuron("mse", "relu"),
}
random_starts = generator.normal(size=(3, 20)).astype("float32") / 4

figure, axis = plt.subplots(figsize=(6, 3.2))
for (name, model), color in zip(models.items(), ("C0", "C1")):
    from_zero = errors(model, np.zeros(20, "float32"))
    others = [errors(model, start) for start in random_starts]
    print(f"{name:13s} error {from_zero[-1]:.2f} from zero,", end=" ")
    print("from random starts", ", ".join(f"{path[-1]:.2f}" for path in others))
    axis.plot(from_zero, color=color, linewidth=2, label=f"{name}, from zero")
    for i, path in enumerate(others):
        label = f"{name}, random starts" if i == 0 else None
        axis.plot(path, "--", color=color, linewidth=1, label=label)
axis.set_title("distance to the true weights, by loss and start", fontsize=10)
axis.set_xlabel("epoch")
axis.set_ylabel("relative error of the weights")
axis.set_ylim(0, None)
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
From zero, squared error never moves: the slope of relu at zero is zero, so all its gradients are. From a random start
it does move, but it sees the corrupted targets only where the neuron is active, and they shrink its weights. The matching
loss ends in the same place from everywhere. What remains of its error is the share of targets that were taken away,
and noise.

Predictions need the activation that the layer left out:
"""

model = models["MatchingLoss"]
network = keras.Sequential([model, keras.layers.ReLU()])
clean = np.maximum(x @ truth, 0)
predicted = network.predict(x, batch_size=len(x), verbose=0)[:, 0]
print(f"mean squared error against the clean targets: {np.mean((predicted - clean) ** 2):.3f}")
