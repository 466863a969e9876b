"""
# Regularizers that are learned

Sparse recovery, denoising and tomography all minimize a misfit and a regularizer. This guide learns three pieces of
that: the step sizes of an algorithm, the proximal map of an unknown prior together with the prior itself, and a
denoiser of digits that solves an inverse problem it was not trained for.

**Use this when** there are examples of the signals you look for, and measurements by a known linear map.

**Do not when** there are plenty of pairs of measurement and signal for one map that never changes: a network from one
to the other is then simpler.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 20

rng = np.random.default_rng(0)


def array(tensor):
    return np.asarray(ops.convert_to_numpy(ops.stop_gradient(tensor)))


"""
## Learned step sizes

Sparse signals of 32 numbers from 16 noisy measurements: iterative soft thresholding, `kr.inverse.ista`, descends to the
Lasso's solution with the step size $1 / \\|A\\|^2$. `UnfoldedISTA` is its first eight iterations with a learned step
size each, trained in two ways: on signals, by squared error, or on measurements alone, by the objective of the
Lasso.
"""

matrix = rng.normal(size=(16, 32))
factor, iterations = 0.3, 8


def draw(count):
    signals = rng.normal(size=(count, 32)) * (rng.uniform(size=(count, 32)) < 0.1)
    measurements = signals @ matrix.T + 0.05 * rng.normal(size=(count, 16))
    return signals.astype("float32"), measurements.astype("float32")


signals, measurements = draw(512)
test_signals, test_measurements = draw(512)
objective = kr.losses.SparseRecoveryObjective(matrix, factor)


def unfolded(targets, loss):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([kr.layers.UnfoldedISTA(matrix, iterations, factor)])
    net.compile(keras.optimizers.Adam(0.002), loss)
    net.fit(measurements, targets, batch_size=128, epochs=2 * EPOCHS, verbose=0)
    return array(net(test_measurements))


def classical(count):
    return array(kr.inverse.ista(test_measurements, matrix, factor, iterations=count))


recovered = {
    "8 classical iterations": classical(iterations),
    "8, trained on signals": unfolded(signals, "mse"),
    "8, trained on measurements": unfolded(measurements, objective),
    "500 classical iterations": classical(500),
}
for name, found in recovered.items():
    squared = np.mean((found - test_signals) ** 2)
    lasso = float(ops.convert_to_numpy(objective(test_measurements, found)))
    print(f"{name:28s} squared error {squared:.4f}   objective {lasso:.3f}")

"""
On new signals, training on signals gives the smaller error, at a higher objective than before; training on measurements
gives the smaller objective, nearly as small an error, and needs no signals at all. Eight iterations do not get as far
as five hundred.

## A learned prior

`LearnedProximal` is the gradient of a convex network, and therefore the proximal map of some prior, whatever its
weights. Here it denoises numbers that are Laplacian, in Gaussian noise. By squared error a denoiser becomes the mean of
what may have been; by `ProximalMatching` the most likely value, that is the proximal map of $-\\log p$: soft
thresholding, for the prior $|x|$. Its $\\gamma$ is halved twice on the way, by `GammaSchedule`.
"""

half, noise = rng.laplace(size=(16384, 1)), rng.normal(size=(16384, 1))
clean = np.concatenate([half, -half]).astype("float32")
noisy = np.concatenate([half + noise, -half - noise]).astype("float32")


def denoiser(last_loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([kr.layers.LearnedProximal(16, 1, beta=10.0)])
    model.compile(keras.optimizers.Adam(0.02), "mae")
    model.fit(noisy, clean, batch_size=1024, epochs=2, verbose=0)
    steps = 32 * EPOCHS
    rate = keras.optimizers.schedules.CosineDecay(0.005, steps, 0.02)
    model.compile(keras.optimizers.Adam(rate), last_loss)
    schedule = kr.callbacks.GammaSchedule(0.35, epochs_per_stage=EPOCHS // 3 + 1, num_stages=3)
    callbacks = [schedule] if last_loss != "mse" else []
    model.fit(noisy, clean, batch_size=1024, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    return model


models = {
    "squared error": denoiser("mse"),
    "proximal matching": denoiser(kr.losses.ProximalMatching(1.4)),
}

grid = np.linspace(-4, 4, 81, dtype="float32")[:, None]
mode = np.sign(grid) * np.maximum(np.abs(grid) - 1, 0)
distance = {
    name: float(np.mean(np.abs(array(model(grid)) - mode))) for name, model in models.items()
}
for name, value in distance.items():
    print(f"{name:18s} mean distance from soft thresholding {value:.3f}")

"""
The prior can be read off the map, up to a constant: `evaluate_prior` finds the point that is mapped to each $x$ and says
by its residual whether there is one.
"""

at = np.linspace(-2.5, 2.5, 51, dtype="float32")[:, None]
priors = {
    name: kr.inverse.evaluate_prior(model.layers[0], at, iterations=500, learning_rate=0.1)
    for name, model in models.items()
}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
axes[0].plot(grid, mode, color="black", label="soft thresholding")
axes[1].plot(at, np.abs(at), color="black", label="$|x|$")
for name, model in models.items():
    axes[0].plot(grid, array(model(grid)), label=name)
    value = array(priors[name].value)
    axes[1].plot(at, value - value.min(), label=name)
axes[0].set(title="denoisers", xlabel="noisy", ylabel="denoised")
axes[1].set(title="their priors", xlabel="x")
for axis in axes:
    axis.legend(frameon=False)
figure.tight_layout()
plt.show()

"""
## A denoiser that solves inverse problems

Trained on noisy digits alone, a `LearnedProximal` stands in for the proximal map of their prior in `plug_and_play`. The
problem is another one: 32 random sums of the 64 pixels of digits that it has not seen. No pair of sums and
digit was trained on, and the same denoiser serves any other map.
"""

digits = (load_digits().data / 16).astype("float32")
train, test = digits[:1500], digits[1500:]
keras.utils.set_random_seed(0)
prior = keras.Sequential([kr.layers.LearnedProximal(128, 2, beta=10.0, strong_convexity=0.01)])
prior.compile(keras.optimizers.Adam(3e-3), "mse")
repeated = np.repeat(train, 4, axis=0)
prior.fit(
    repeated + 0.2 * rng.normal(size=repeated.shape).astype("float32"),
    repeated,
    batch_size=256,
    epochs=EPOCHS,
    verbose=0,
)

sums = rng.normal(size=(32, 64)).astype("float32") / 8
y = test @ sums.T
least_norm = y @ np.linalg.pinv(sums).T
plugged = array(kr.inverse.plug_and_play(y, sums, prior, iterations=100))
errors = {
    name: float(np.sqrt(np.mean((found - test) ** 2)))
    for name, found in (("least norm", least_norm), ("plug and play", plugged))
}
for name, value in errors.items():
    print(f"{name:14s} root mean squared error {value:.3f}")

figure, axes = plt.subplots(3, 8, figsize=(8, 3.4))
for row, (name, found) in zip(
    axes, (("digit", test), ("least norm", least_norm), ("plugged", plugged))
):
    row[0].set_ylabel(name)
    for axis, image in zip(row, found):
        axis.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
figure.suptitle("Digits from 32 sums of their 64 pixels")
figure.tight_layout()
plt.show()

smallest, plug = errors["least norm"], errors["plug and play"]

"""
The least-norm solution has an error of {smallest:.2f}, plug and play {plug:.2f}. For images larger than these take
`kr.layers.GradientOf(kr.inverse.convex_cnn(…))` for a denoiser.
"""
