"""
# Sharpness-aware minimization

Two networks can fit their training data equally well and differ in how the loss rises around their weights. Methods
that prefer flat surroundings often generalize better, above all where there is something in the data that a network
had better not learn. This guide trains scikit-learn's digits with half of the training labels replaced by random ones,
compares the family of methods in `kr.models`, and looks at what they did to the loss. It runs unchanged on JAX,
TensorFlow and PyTorch (`KERAS_BACKEND`); the numbers in the text are of one run on PyTorch.
"""

import os
import pathlib

import keras
import matplotlib
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EPOCHS = int(os.environ.get("GUIDE_EPOCHS", 120))
IMAGES = pathlib.Path(os.environ.get("GUIDE_IMAGES", "guides/images"))
IMAGES.mkdir(parents=True, exist_ok=True)

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

figure, axis = plt.subplots(figsize=(6, 3.2))
for name, history in histories.items():
    (line,) = axis.plot(history["val_accuracy"], label=f"{name}: test")
    axis.plot(history["accuracy"], "--", color=line.get_color(), label=f"{name}: noisy training")
axis.set_xlabel("epoch")
axis.set_ylabel("accuracy")
axis.set_ylim(0, 1)
axis.legend(loc="lower right", frameon=False, fontsize=8)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(IMAGES / "sharpness_epochs.png", dpi=120)
plt.close(figure)

"""
![Accuracy over epochs of plain training and SAM](images/sharpness_epochs.png)

Both first learn what the labels have in common: the test accuracy passes 0.9 within ten epochs or so. Then plain
training memorizes the random half, and while its accuracy on the noisy training labels rises to 0.96 that on the test set
falls to 0.54. SAM stays at its peak of 0.95 for some fifty epochs more, and ends at 0.79. It delays memorization, and
does not forbid it: in the end its curve falls too.

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

print(f"{'':14s} {'test':>6s} {'noisy training':>15s} {'passes':>7s}")
for name, (wrap, passes) in methods.items():
    history = histories[name] if name in histories else train(wrap(network()))
    test, noisy = history["val_accuracy"][-1], history["accuracy"][-1]
    print(f"{name:14s} {test:6.3f} {noisy:15.3f} {passes:7.1f}")

"""
| after 120 epochs | test | noisy training | passes |
|---|---|---|---|
| plain | 0.542 | 0.963 | 1 |
| SAM | 0.790 | 0.680 | 2 |
| ASAM | 0.626 | 0.805 | 2 |
| GSAM | 0.828 | 0.645 | 2 |
| LookSAM | 0.924 | 0.503 | 1.2 |
| MomentumSAM | 0.708 | 0.680 | 1 |
| gradient norm | 0.592 | 0.895 | 2 |
| flooding | 0.646 | 0.667 | 1 |

All end above plain training, and in the order of how little they memorized, but for flooding. That is no ranking of the
methods: each ran once, with one strength that was not tuned, and strength is most of the difference. LookSAM came out
first probably because its remembered direction, at a weight of 0.7 in four steps out of five, pushes harder than SAM
at the same `rho`. The gradient-norm penalty hardly helps at this strength. In practice, take the cheapest one that
suffices, and choose its strength on a validation set, which also says when to stop.

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
    for _ in range(min(20, 2 * EPOCHS)):
        _, product = kr.autodiff.hvp(lambda w: loss_at(net, w), weights, direction)
        product = [ops.stop_gradient(p) for p in product]
        curvature = sum(ops.sum(p * d) for p, d in zip(product, direction))
        direction = unit(product)
    return float(ops.convert_to_numpy(curvature))


for name, net in networks.items():
    net.compile("sgd", crossentropy)
    print(f"{name}: largest eigenvalue of the Hessian {top_eigenvalue(net):.1f}")

"""
8.8 for plain training, 2.2 for SAM: a quarter. The same in a picture: the training loss along random directions. A network with larger weights is moved less by the same
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
figure, axis = plt.subplots(figsize=(6, 3.2))
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
axis.legend(frameon=False, fontsize=8)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(IMAGES / "sharpness_directions.png", dpi=120)
plt.close(figure)

"""
![Training loss along random directions](images/sharpness_directions.png)

Plain training ends lower, at a training loss near zero, and in a steeper bowl; beyond a distance of
about 0.3, SAM's loss is the lower one in every direction.

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
    print(
        f"  training loss {np.mean((features @ predictor[:, None] - targets) ** 2):.0e}, "
        f"distance to the truth {np.linalg.norm(predictor - truth):.2f}, "
        f"sum of absolute weights {np.abs(predictor).sum():.1f}"
    )


rules = {
    "gradient descent": lambda net: net,
    "penalty with step 0.02": lambda net: kr.models.GradientRegularization(net, 0.02, step=0.02),
    "penalty with step 0.1": lambda net: kr.models.GradientRegularization(net, 0.02, step=0.1),
}
epochs = (EPOCHS + 1) // 2
for name, wrap in rules.items():
    print(f"{name}, a sample per step:")
    train_diagonal(wrap, 0.002, x=features, y=targets, batch_size=1, epochs=epochs)

# Ten copies of the data in their order: batches of 40 are the whole set each time.
copies = {"x": np.tile(features, (10, 1)), "y": np.tile(targets, (10, 1)), "shuffle": False}
for name in ("gradient descent", "penalty with step 0.1"):
    print(f"{name}, all samples per step:")
    train_diagonal(rules[name], 0.01, **copies, batch_size=40, epochs=EPOCHS)

"""
A sample per step, plain descent reaches a predictor at distance 1.27 from the truth, whose weights sum to 9.3 instead of
5. The penalty takes it to 0.92 and 8.2 with a step of 0.02, and to 0.22 and 5.5 with a step of 0.1, at the same
factor: the larger step is not a worse approximation but another, here better, regularizer. With all samples in each step
the effect is gone, even reversed a little (1.33 after 1.28). It comes from the gradients of single samples, which
spread over all coordinates alike; that of the whole set is largest where the truth is, and it is there that the penalty
shrinks most.

## Where to go from here

- `SAM(model, micro_batch_size=…)` takes the perturbation from parts of a batch; wrappers nest, as in `SAM(VAT(model))`.
- [Write your own train step](write_your_own_train_step.md): `SAM` itself is ten lines on top of this package's step.
- The [catalog](../catalog.md) has the methods' formulas, costs and sources.
"""
