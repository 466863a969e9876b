"""
# Tuning by gradients: weight decay, kernels and images

A penalty, the width of a kernel, the strength of a smoother: such numbers are searched on a grid, a training for each
point of it. They have gradients too. This guide finds the weight decay of a fine-tuned network within its one training,
and without validation data; then two penalties and kernels whose best solution is differentiated in the
hyperparameters, by HOAG and by MAID. Each is compared with a grid.

**Use this when** a grid is too slow, data are too few to keep some for validation, or there are more than two numbers to
choose.

**Do not when** a training takes seconds and there is one number: a grid shows the whole curve.
"""

import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_diabetes, load_digits

import keras_regularize as kr

EPOCHS = 10  # Of 20 steps each.
POINTS = 6  # Of a grid.
STEPS = 30  # Of HOAG and of MAID.


def style(axis, xlabel, ylabel, legend=True):
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize=9)


"""
## The weight decay of a fine-tuned network, in one training

A network that knows the digits 0 to 4 learns 5 to 9 from 60 samples, half of them with a random label, so that a
regularizer has something to do. Its weights are pulled to where they were pretrained, those of the new head to 0; how
strongly is the question.
"""

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(backbone=None):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(64, activation="relu", name="backbone")
    net = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(5, name="head")])
    if backbone is not None:
        hidden.set_weights(backbone)
    return net


first, second = y < 5, y >= 5
pretrained = network()
pretrained.compile(keras.optimizers.Adam(0.01), crossentropy)
pretrained.fit(x[first], y[first], epochs=EPOCHS, batch_size=100, verbose=0)
backbone = pretrained.get_layer("backbone").get_weights()

x_new, y_new = x[second], y[second] - 5
x_train, y_train = x_new[:60], y_new[:60].copy()
x_test, y_test = x_new[60:], y_new[60:]
wrong = np.random.default_rng(1).random(60) < 0.5
y_train[wrong] = np.random.default_rng(2).integers(0, 5, wrong.sum())
"""
`DataEmphasizedELBo` trains with noise in the weights, and keeps the variance of their prior where its objective is least.
Nothing is set aside: all samples are for training.
"""


def measured(net):
    net.compile("sgd", crossentropy, metrics=["accuracy"])
    return net.evaluate(x_test, y_test, verbose=0)


def train(model, inputs, labels):
    """All samples in each step."""
    rate = keras.optimizers.schedules.CosineDecay(0.01, 20 * EPOCHS)
    model.compile(keras.optimizers.Adam(rate), crossentropy)
    rows = np.tile(np.arange(len(labels)), 20)
    model.fit(inputs[rows], labels[rows], len(labels), EPOCHS, verbose=0, shuffle=False)


start = time.perf_counter()
net = network(backbone)
elbo = kr.models.DataEmphasizedELBo(
    net, len(x_train), prior_means={"backbone": "initial", "head": 0.0}, initial_scale=0.01, seed=0
)
train(elbo, x_train, y_train)
elbo_seconds = time.perf_counter() - start
found, (elbo_loss, elbo_accuracy) = elbo.weight_decay, measured(net)
print({name: f"{decay:.2g}" for name, decay in found.items()})
"""
The grid takes one strength for both, 40 samples for training and 20 to choose by, and trains once more on all with the
choice.
"""


def penalized(decay, samples=60):
    net = network(backbone)
    hidden, head = net.layers
    for variable, reference in zip(hidden.weights, backbone):
        variable.regularizer = kr.regularizers.L2ToReference(reference, 0.5 * decay)
    for variable in head.weights:
        variable.regularizer = keras.regularizers.L2(0.5 * decay)
    train(net, x_train[:samples], y_train[:samples])
    return net


decays, validation = np.geomspace(1e-3, 1.0, POINTS), []
start = time.perf_counter()
for decay in decays:
    net = penalized(decay, 40)
    net.compile("sgd", crossentropy)
    validation.append(net.evaluate(x_train[40:], y_train[40:], verbose=0))
chosen = decays[int(np.argmin(validation))]
grid_net = penalized(chosen)
grid_seconds = time.perf_counter() - start
grid_loss, grid_accuracy = measured(grid_net)
results = [measured(penalized(decay)) for decay in decays]

found_backbone, found_head = found["backbone"], found["head"]
elbo_noise = elbo.posterior_scale

_, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, column, one in zip(axes, zip(*results), (elbo_loss, elbo_accuracy)):
    axis.semilogx(decays, column, marker="o", color="C0", label="trained with this decay")
    axis.axhline(one, color="C3", label="found in one training")
    axis.axvline(chosen, color="0.6", linestyle=":", label="chosen by validation")
style(axes[0], "weight decay", "cross-entropy of the test")
axes[0].set_ylim(bottom=0.4)
axes[0].set_title("A grid of decays, and one training", fontsize=10)
style(axes[1], "weight decay", "accuracy of the test", legend=False)
plt.tight_layout()
plt.show()
"""
One training of {elbo_seconds:.1f} s has an accuracy of {elbo_accuracy:.3f} and a cross-entropy of {elbo_loss:.2f}; the
grid took {grid_seconds:.1f} s and has {grid_accuracy:.3f} and {grid_loss:.2f}. The curve of the test, which nobody sees
who chooses, shows what the best of the grid would have been. The decay it found for the backbone is
{found_backbone:.2g}, that of the head {found_head:.2g}: no grid of one number has both. Part of what helps is not the
decay but the noise in the weights, of standard deviation {elbo_noise:.3f}.

## A kernel and its penalty, by HOAG

Kernel ridge regression has coefficients $c$ that minimize $\\frac12 c^\\top (K + \\lambda I) c - c^\\top y$, strongly
convex, and two hyperparameters, $\\lambda$ and the width of the kernel. `HOAG` moves both at once by the gradient of the
validation loss at coefficients that are as good as they need to be by then.
"""

features, target = load_diabetes(return_X_y=True)
order = np.random.default_rng(0).permutation(len(target))
features = (features / features.std(axis=0))[order].astype("float32")
target = ((target - target.mean()) / target.std())[order].astype("float32")
parts = np.split(np.arange(len(target)), [150, 300])
(a_train, a_val, a_test), (b_train, b_val, b_test) = (
    [ops.convert_to_tensor(values[rows]) for rows in parts] for values in (features, target)
)


def kernel(p, q, a):
    squares = ops.sum(p**2, -1)[:, None] + ops.sum(q**2, -1) - 2 * ops.matmul(p, ops.transpose(q))
    return ops.exp(-0.5 * squares * ops.exp(-2.0 * a[1]))


def ridge(c, a):
    fitted = ops.matmul(kernel(a_train, a_train, a), c) + ops.exp(a[0]) * c
    return ops.sum(c * (0.5 * fitted - b_train))


def error(points, values):
    return lambda c, a: ops.mean((ops.matmul(kernel(points, a_train, a), c) - values) ** 2)


start = time.perf_counter()
search = kr.hyper.HOAG(ridge, error(a_val, b_val), max_iterations=STEPS)
hoag = search.minimize(np.zeros(150, "float32"), np.zeros(2, "float32"))
hoag_seconds = time.perf_counter() - start
hoag_test = float(error(a_test, b_test)(hoag.weights, ops.convert_to_tensor(hoag.hyperparameters)))
"""
The grid has the solution of each point exactly, by one factorization.
"""

penalties, widths = np.linspace(-4, 5, 3 * POINTS), np.linspace(0, 4, 3 * POINTS)
surface = np.zeros((len(penalties), len(widths)))
for i, j in np.ndindex(*surface.shape):
    a = ops.convert_to_tensor(np.array([penalties[i], widths[j]], "float32"))
    matrix = ops.convert_to_numpy(kernel(a_train, a_train, a)) + np.exp(penalties[i]) * np.eye(150)
    c = np.linalg.solve(matrix, ops.convert_to_numpy(b_train)).astype("float32")
    surface[i, j] = float(error(a_val, b_val)(ops.convert_to_tensor(c), a))
grid_error, grid_size, hoag_error = surface.min(), surface.size, hoag.outer_loss
hoag_iterations, hoag_gradients = (
    len(hoag.history["outer_loss"]),
    hoag.history["inner_iterations"][-1],
)

_, axis = plt.subplots(figsize=(5.4, 3.8))
levels = axis.contourf(widths, penalties, surface, 20, cmap="Greys_r")
plt.colorbar(levels, label="error of the validation")
path = np.stack(hoag.history["hyperparameters"])
axis.plot(path[:, 1], path[:, 0], "C3o-", markersize=4, label="HOAG")
style(axis, "logarithm of the width", "logarithm of the penalty")
axis.set_title("Steps of HOAG on the validation error", fontsize=10)
plt.tight_layout()
plt.show()
"""
In {hoag_iterations:d} steps and {hoag_gradients:d} gradients of the inner problem HOAG is at a validation error of
{hoag_error:.4f}; the best of the {grid_size:d} points of the grid has {grid_error:.4f}. On samples that neither saw the error
is {hoag_test:.4f}. The first step, as long as a hyperparameter can be trusted, is most of it; along the flat valley that
follows the gradient is small, and so are the steps.

## The strength of a smoother, by MAID

An image is denoised by the least of $\\frac12 \\lVert u - v \\rVert^2 + e^a\\, \\mathrm{TV}(u)$, where the total variation is
smoothed so that it has a gradient. The hyperparameters are $a$ and the logarithm of that smoothing. `MAID` chooses by
itself how exactly each inner problem is solved: so that a step that it accepts is one down whatever the error.
"""

digits = load_digits().images[[0, 3, 8]] > 6
clean = np.kron(np.concatenate(list(digits), axis=1), np.ones((4, 4)))
noisy = clean + 0.4 * np.random.default_rng(0).normal(size=clean.shape)
clean, noisy = (ops.convert_to_tensor(image.astype("float32")) for image in (clean, noisy))


def denoised(u, a):
    down, right = u[1:, :-1] - u[:-1, :-1], u[:-1, 1:] - u[:-1, :-1]
    variation = ops.sum(ops.sqrt(down**2 + right**2 + ops.exp(2.0 * a[1])))
    return 0.5 * ops.sum((u - noisy) ** 2) + ops.exp(a[0]) * variation


def distance(u, a):
    return 0.5 * ops.sum((u - clean) ** 2)


start = time.perf_counter()
search = kr.hyper.MAID(
    denoised, distance, strong_convexity=1.0, outer_lipschitz=1.0, max_iterations=STEPS
)
maid = search.minimize(noisy, np.array([-3.0, -2.0], "float32"))
maid_gradients = maid.history["inner_iterations"][-1]
noisy_distance, maid_distance = float(distance(noisy, None)), maid.outer_loss

_, axes = plt.subplots(1, 4, figsize=(11, 1.7), width_ratios=(3, 3, 3, 2))
images = (clean, noisy, maid.weights)
for axis, image, title in zip(axes, images, ("image", "with noise", "denoised")):
    axis.imshow(ops.convert_to_numpy(image), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")
axes[3].semilogy(maid.history["accuracy"], color="C3")
style(axes[3], "step", "distance", legend=False)
axes[3].set_title("inner accuracy", fontsize=9)
plt.tight_layout()
plt.show()
"""
The squared distance to the image falls from {noisy_distance:.1f} to {maid_distance:.1f} in {maid_gradients:d} gradients of the
inner problem. The accuracy is looser than the first one while the steps are long, and tightens as they get near.
"""
