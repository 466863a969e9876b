"""
# The Hessian of a network

Second derivatives of the loss say how fast it curves, in which directions, and how large a step may be. The Hessian of
a network is far too large to write down, but its product with a vector costs little more than two gradients, and all
that is asked of it as a rule follows from such products. This guide reads it off a trained network: eigenvalues, their
density, the trace, sharpness, and beside them the noise of the gradients. It runs unchanged on JAX, TensorFlow and
PyTorch (`KERAS_BACKEND`).

**Use this when** a training diverges and you want to know which learning rates could work, when you compare what two
trainings found, or when you ask for a batch size.

**Do not when** you look for a number that predicts generalization by itself: none of these does.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 30
STEPS = 60  # Of the Lanczos iteration.
REPEATS = 3

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train = x[:1297], y[:1297]

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(10),
        ]
    )
    net.compile(keras.optimizers.SGD(0.1), crossentropy)
    return net


net = network()
print(f"{net.count_params()} weights")

"""
## The largest eigenvalues

`hessian_eigenvalues` streams over the data, in any form that `fit` takes, and never changes the model. At the random
weights at the start:
"""

data = {"x": x_train, "y": y_train, "batch_size": len(x_train)}
start = kr.analysis.hessian_eigenvalues(
    net, **data, k=3, which="both", max_iterations=STEPS, seed=0
)
print("largest and smallest:", np.round(start.eigenvalues, 2), "in", start.iterations, "products")

"""
They are the curvature in the steepest directions. Gradient descent with a rate above 2 over the largest one cannot stay
where it is: it climbs the walls of the valley. The rest of a training moves this limit, which can be watched. A small
callback asks for the largest eigenvalue every few epochs of gradient descent with the whole set, at three rates:
"""


class Sharpening(keras.callbacks.Callback):
    "Keeps the largest eigenvalue along a training."

    def __init__(self):
        super().__init__()
        self.epochs, self.values = [], []

    def on_epoch_end(self, epoch, logs=None):
        if epoch % 10 == 0:
            found = kr.analysis.hessian_eigenvalues(
                self.model, **data, max_iterations=STEPS, tolerance=0.01, seed=0
            )
            self.epochs.append(epoch)
            self.values.append(found.eigenvalues[0])


figure, axis = plt.subplots(figsize=(7, 3.4))
trained = {}
for rate, color in ((0.2, "C0"), (0.5, "C1"), (1.0, "C2")):
    trained[rate] = network()
    trained[rate].optimizer.learning_rate = rate
    watch = Sharpening()
    trained[rate].fit(
        x_train, y_train, batch_size=len(x_train), epochs=10 * EPOCHS, callbacks=[watch], verbose=0
    )
    axis.plot(watch.epochs, watch.values, color=color, label=f"learning rate {rate}")
    axis.axhline(2 / rate, color=color, linestyle="--", linewidth=1)
axis.set_title("largest eigenvalue in full-batch training; dashed, 2 over the rate", fontsize=10)
axis.set_xlabel("step")
axis.set_ylabel("largest eigenvalue")
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()
last = {
    rate: kr.analysis.hessian_eigenvalues(n, **data, max_iterations=STEPS, seed=0).eigenvalues[0]
    for rate, n in trained.items()
}

"""
At a rate of 0.2 the limit is 10, and nothing happens. At 0.5 the limit is 4, below the curvature that the training
soon meets, and at 1.0 it is 2, below that of the start: both are thrown out of the steep part, and in the end curvature
is {last[0.5]:.1f} and {last[1.0]:.1f}, against {last[0.2]:.1f} at the smallest rate. Large rates find flat places because they cannot
stay elsewhere.

## The whole spectrum

A few runs of Lanczos from random vectors give the density of all eigenvalues.
"""

net = trained[0.2]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for axis, (title, model) in zip(axes, {"at the start": network(), "trained": net}.items()):
    spectrum = kr.analysis.hessian_spectral_density(
        model, **data, steps=STEPS, runs=REPEATS, seed=0
    )
    spectrum.plot(axis)
    axis.set_title(f"spectrum of the Hessian, {title}", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylim(1e-6, 1e2)
axes[1].set_ylabel("")
figure.tight_layout()
plt.show()

near_zero = spectrum.weights[np.abs(spectrum.nodes) < 0.05].sum()
lowest = spectrum.nodes.min()

"""
The logarithmic axis hides how much of it is one peak: {near_zero:.0%} of the eigenvalues of the trained network are within
0.05 of 0. Its loss is flat in nearly all directions, and steep in a handful, about as many as there are classes. The
smallest eigenvalue is {lowest:.2f}: next to the largest, the point is as good as a minimum.

## One number

The trace adds all curvatures up, in a few dozen products, with the error that random probes leave. `sharpness` asks
directly: how much does the loss rise at the worst point nearby? The Gauss-Newton part leaves out the curvature of the
network itself; near a minimum it is most of the Hessian.
"""

trace = kr.analysis.hessian_trace(net, **data, num_samples=STEPS, seed=0)
print(f"trace {trace.trace:.1f} ± {trace.standard_error:.1f}")
for rho in (0.05, 0.2):
    step = kr.analysis.sharpness(net, **data, rho=rho)
    worst = kr.analysis.sharpness(net, **data, rho=rho, ascent_steps=STEPS // 3 + 1)
    print(
        f"rise of the loss within {rho}: {step:.3f} along the gradient, {worst:.3f} at the worst point"
    )
top = kr.analysis.hessian_eigenvalues(net, **data, max_iterations=STEPS, seed=0).eigenvectors[0]
hessian = kr.analysis.hessian_vector_product(net, **data, vector=top)
newton = kr.analysis.gauss_newton_vector_product(net, **data, vector=top)
curvatures = [sum(np.sum(p * v) for p, v in zip(parts, top)) for parts in (hessian, newton)]
print(
    f"curvature along the top eigenvector {curvatures[0]:.2f}, of it Gauss-Newton {curvatures[1]:.2f}"
)

"""
## How large a batch

The gradients of single samples differ. Their covariance over the squared length of the mean gradient is the *noise
scale*: at batches of that size signal and noise of a step are alike, and larger ones pay less and less. It grows as the
training goes on, because what the samples agree on has been learnt.
"""

few = {"x": x_train[: 20 * EPOCHS], "y": y_train[: 20 * EPOCHS]}
for title, model in {"at the start": network(), "trained": net}.items():
    found = kr.analysis.gradient_statistics(model, **few, learning_rate=0.1)
    print(
        f"{title:13s} noise scale {found.noise_scale:8.1f}, growth of the gap per step {found.gap_change:.1e}"
    )

"""
Once the samples are fitted, the mean gradient cannot be told from 0 any more, and the scale is infinite: what is left
is noise.

## Where to go from here

- [Loss landscapes](loss_landscapes.md) draws the surroundings that these numbers describe.
- `kr.models.SAM` and its relatives train for a small `sharpness`:
  [sharpness-aware minimization](sharpness_aware_minimization.md).
- `kr.analysis.hessian_difference_norm` compares the curvature on two data sets.
"""
