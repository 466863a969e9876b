"""
# Sharpness-aware minimization

Two networks can fit their training data equally well and differ in how the loss rises around their weights. Methods
that prefer flat surroundings often generalize better, above all where there is something in the data that a network
had better not learn. This guide trains scikit-learn's digits with half of the training labels replaced by random ones,
compares the family of methods in `kr.models`, and looks at what they did to the loss. It runs unchanged on JAX,
TensorFlow and PyTorch (`KERAS_BACKEND`).

**Use this when** a network fits its training data perfectly and something in them had better not be learnt, or a few more
points of accuracy are worth a second pass per step.

**Do not when** the network still fails to fit its training data: what it needs is not less freedom. And if you know when to
stop, stopping early may do the same for nothing.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 120
STEPS = 20  # Of the power iteration.

x, y = load_digits(return_X_y=True)
generator = np.random.default_rng(0)
order = generator.permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:1297], y[:1297], x[1297:], y[1297:]

random_label = generator.random(len(y_train)) < 0.5
y_noisy = np.where(random_label, generator.integers(0, 10, len(y_train)), y_train)
print(f"training labels that are wrong: {np.mean(y_noisy != y_train):.0%}")


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

"""
## Plain training and SAM

`SAM` asks for the gradient not at the weights $w$ but at the worst weights within a distance $\\rho$, to first order
$w + \\rho\\,g / \\|g\\|$, and takes the optimizer's step with it. A minimum in a narrow valley looks bad from there, a
flat one does not. It is a wrapper around the model, and everything else stays as it was.
"""


def train(model):
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), crossentropy, metrics=["accuracy"])
    return model.fit(
        x_train,
        y_noisy,
        batch_size=128,
        epochs=EPOCHS,
        validation_data=(x_test, y_test),
        validation_batch_size=len(x_test),
        verbose=0,
    ).history


histories, networks = {}, {}
for name, wrap in {
    "plain": lambda net: net,
    "SAM": lambda net: kr.models.SAM(net, rho=0.3),
}.items():
    networks[name] = network()
    histories[name] = train(wrap(networks[name]))

best = {name: max(history["val_accuracy"]) for name, history in histories.items()}
end = {name: history["val_accuracy"][-1] for name, history in histories.items()}
for name, history in histories.items():
    print(
        f"{name:5s} test accuracy at best {best[name]:.3f}, in the end {end[name]:.3f}, "
        f"noisy training {history['accuracy'][-1]:.3f}"
    )

"""
Both first learn what the labels have in common: the test accuracy rises to {best["plain"]:.2f} and {best["SAM"]:.2f}. Then plain
training memorizes the random half, and while its accuracy on the noisy training labels rises that on the test set falls to
{end["plain"]:.2f}. `SAM` stays near its peak for longer, and ends at {end["SAM"]:.2f}. It delays memorization, and does not forbid
it: in the end its curve falls too.

## The family

The relatives change how far to go, along what, or how often to pay for a second pass. Passes are forward-backward
passes per step. A high accuracy on the training labels is no success here: a model that knows every digit agrees with
half of them.
"""

methods = {
    "plain": (lambda net: net, 1),
    "SAM": (lambda net: kr.models.SAM(net, rho=0.3), 2),
    "ASAM": (lambda net: kr.models.ASAM(net, rho=0.5), 2),
    "GSAM": (lambda net: kr.models.GSAM(net, rho=0.3, alpha=0.1), 2),
    "LookSAM": (lambda net: kr.models.LookSAM(net, rho=0.3, period=5), 1.2),
    "MomentumSAM": (lambda net: kr.models.MomentumSAM(net, rho=1.0), 1),
    "gradient norm": (
        lambda net: kr.models.GradientRegularization(net, factor=0.05, step=0.05),
        2,
    ),
    "flooding": (lambda net: kr.models.Flooding(net, level=1.0), 1),
}

for name, (wrap, _) in methods.items():
    if name not in histories:
        histories[name] = train(wrap(network()))

print(f"{'':14s} {'test':>6s} {'noisy training':>15s} {'passes':>7s}")
for name, (_, passes) in methods.items():
    test, noisy = histories[name]["val_accuracy"][-1], histories[name]["accuracy"][-1]
    print(f"{name:14s} {test:6.3f} {noisy:15.3f} {passes:7.1f}")

"""
All end above plain training. That is no ranking of the methods: each ran once, with one strength that was not tuned,
and strength is most of the difference; but for flooding, those that memorize less end better. `LookSAM` comes out first
probably because its remembered direction, at a weight of 0.7 in four steps out of five, pushes harder than `SAM` at the
same `rho`. The gradient-norm penalty hardly helps at this strength. In practice, take the cheapest one that suffices,
and choose its strength on a validation set, which also says when to stop.

## Is it flatter?

The curvature of the loss is in its Hessian, which is too large to write down but can be multiplied with a vector:
`kr.autodiff.hvp`. Repeating that turns any vector towards the direction of largest curvature.
`kr.autodiff.Forward` is the model at whatever weights we like, without touching it.
"""

batch = kr.autodiff.Batch(x_train, y_noisy)


def loss_at(net, weights):
    return kr.autodiff.Forward(net, weights).loss(batch)


def unit(vector):
    norm = ops.sqrt(sum(ops.sum(v**2) for v in vector))
    return [v / norm for v in vector]


def top_eigenvalue(net):
    weights = [v.value for v in net.trainable_variables]
    direction = unit([keras.random.normal(w.shape, seed=i) for i, w in enumerate(weights)])
    for _ in range(STEPS):
        _, product = kr.autodiff.hvp(lambda w: loss_at(net, w), weights, direction)
        product = [ops.stop_gradient(p) for p in product]
        curvature = sum(ops.sum(p * d) for p, d in zip(product, direction))
        direction = unit(product)
    return float(ops.convert_to_numpy(curvature))


for name, net in networks.items():
    net.compile("sgd", crossentropy)
    print(f"{name:5s} largest eigenvalue of the Hessian {top_eigenvalue(net):.1f}")

"""
The same in a picture: the training loss along random directions. A network with larger weights is moved less by the same
step, so each direction is scaled, unit by unit, to the length of the weights it is added to.
"""


def filter_normalized(weights, seed):
    """A random direction whose columns have the lengths of those of the weights; biases stay."""
    random = np.random.default_rng(seed)
    direction = []
    for w in weights:
        d = random.normal(size=w.shape) if w.ndim > 1 else np.zeros(w.shape)
        direction.append(d * np.linalg.norm(w, axis=0) / (np.linalg.norm(d, axis=0) + 1e-12))
    return direction


distances = np.linspace(-1, 1, 21)
figure, axis = plt.subplots(figsize=(8, 3.2))
axis.set_title("training loss around the weights, in five random directions", fontsize=10)
for (name, net), color in zip(networks.items(), ("C0", "C1")):
    weights = net.get_weights()
    for seed in range(5):
        direction = filter_normalized(weights, seed)
        losses = []
        for distance in distances:
            moved = [
                ops.convert_to_tensor((w + distance * d).astype("float32"))
                for w, d in zip(weights, direction)
            ]
            losses.append(float(ops.convert_to_numpy(ops.stop_gradient(loss_at(net, moved)))))
        axis.plot(distances, losses, color=color, alpha=0.7, label=None if seed else name)
axis.set_xlabel("distance along a random direction, relative to the weights")
axis.set_ylabel("training loss")
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
Plain training ends lower, and in a steeper bowl; farther out, SAM's loss is the lower one.

## A case that can be understood

What does a penalty on the gradient prefer, besides being flat? In a *diagonal linear network*,
$y = \\langle u \\odot u - v \\odot v, x\\rangle$, the predictor is linear, but gradient descent on $u$ and $v$ leans
towards sparse ones. The finite-difference penalty of `GradientRegularization` can make it lean further, the more so the
larger its step. Here are 40 samples in 100 dimensions, of which 5 matter, one sample per step.
"""


class DiagonalNetwork(keras.layers.Layer):
    def build(self, input_shape):
        start = keras.initializers.Constant(0.3)
        self.u = self.add_weight(shape=(input_shape[-1],), initializer=start, name="u")
        self.v = self.add_weight(shape=(input_shape[-1],), initializer=start, name="v")

    def call(self, x):
        return ops.matmul(x, (self.u**2 - self.v**2)[:, None])


generator = np.random.default_rng(1)
truth = np.zeros(100)
truth[:5] = 1.0
features = generator.normal(size=(40, 100)).astype("float32")
targets = features @ truth[:, None]


def train_diagonal(wrap, learning_rate, **fit):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((100,)), DiagonalNetwork()])
    model = wrap(net)
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    model.fit(**fit, verbose=0)
    u, v = net.get_weights()
    predictor = u**2 - v**2
    loss = np.mean((features @ predictor[:, None] - targets) ** 2)
    distance, total = np.linalg.norm(predictor - truth), np.abs(predictor).sum()
    return f"{loss:13.0e} {distance:21.2f} {total:17.1f}", distance


rules = {
    "gradient descent": lambda net: net,
    "penalty with step 0.02": lambda net: kr.models.GradientRegularization(net, 0.02, step=0.02),
    "penalty with step 0.1": lambda net: kr.models.GradientRegularization(net, 0.02, step=0.1),
}
epochs = (EPOCHS + 1) // 2
print(f"{'':23s} training loss  distance to the truth  sum of |weights|")
away = {}
for name, wrap in rules.items():
    line, away[name] = train_diagonal(
        wrap, 0.002, x=features, y=targets, batch_size=1, epochs=epochs
    )
    print(f"{name:23s}", line)

"""
A sample per step, plain descent reaches a predictor that is {away["gradient descent"]:.2f} away from the truth, and whose
weights sum to more than the true 5. The penalty takes it to {away["penalty with step 0.02"]:.2f} with a step of 0.02, and to
{away["penalty with step 0.1"]:.2f} with a step of 0.1, at the same factor: the larger step is not a worse approximation but
another, here better, regularizer. The same with all samples in each step:
"""

# Ten copies of the data in their order: batches of 40 are the whole set each time.
copies = {"x": np.tile(features, (10, 1)), "y": np.tile(targets, (10, 1)), "shuffle": False}
for name in ("gradient descent", "penalty with step 0.1"):
    line, _ = train_diagonal(rules[name], 0.01, **copies, batch_size=40, epochs=EPOCHS)
    print(f"{name:23s}", line)

"""
The effect is gone. It comes from the gradients of single samples, which spread over all coordinates alike; that of the
whole set is largest where the truth is, and it is there that the penalty shrinks most.

## The course of the training

Back to the digits, the test accuracy of plain training and of four of the family, epoch by epoch:
"""

figure, axis = plt.subplots(figsize=(8, 3.4))
for name in ("plain", "SAM", "GSAM", "LookSAM", "MomentumSAM"):
    axis.plot(np.arange(1, EPOCHS + 1), histories[name]["val_accuracy"], label=name)
axis.set_title("test accuracy with half of the training labels random", fontsize=10)
axis.set_xlabel("epoch")
axis.set_ylim(0.4, 1)
axis.legend(loc="lower center", frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""

## Where to go from here

- `SAM(model, micro_batch_size=…)` takes the perturbation from parts of a batch; wrappers nest, as in `SAM(VAT(model))`.
- [Write your own train step](write_your_own_train_step.md): `SAM` itself is ten lines on top of this package's step.
- The [catalog](../catalog.md) has the methods' formulas, costs and sources.
"""
