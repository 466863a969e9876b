"""
# Autoencoders and the density of data

An autoencoder that is made to forget – by noise on its inputs, or by a price on its Jacobian – can keep only what the data
make it keep, and so learns where data are. From what it does to a point follows the score, the gradient of the logarithm
of the density: it points to where data are more likely. This guide trains such autoencoders, draws from them, and shows two
other ways to make one forget: a Jacobian of low rank, and codes of bits.

**Use this when** you want to know which inputs are likely, to take noise off without ever having seen clean data of the
kind, or a representation that ignores what does not vary.

**Do not when** you want pictures that look real: diffusion models do the same with many noise levels at once, and large
networks.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 60

"""
## The score of a spiral

2000 points along a curve in the plane. The network sees them with noise of the deviation 0.1 and is asked for them
without; `DenoisingAutoencoder` adds the noise in training.
"""

generator = np.random.default_rng(0)
turn = 3 * np.pi * np.sqrt(generator.uniform(0.05, 1, 2000))
x = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 6
x = (x + generator.normal(0, 0.02, x.shape)).astype("float32")
SIGMA = 0.1


def network():
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((2,)), dense(128, "tanh"), dense(128, "tanh"), dense(2)])


def train(model, epochs):
    decay = keras.optimizers.schedules.CosineDecay(0.003, epochs * 20)
    model.compile(keras.optimizers.Adam(decay), "mse")
    return model.fit(x, x, batch_size=100, epochs=epochs, verbose=0).history["loss"][-1]


denoiser = network()
train(kr.models.DenoisingAutoencoder(denoiser, SIGMA, seed=0), 4 * EPOCHS)

"""
`autoencoder_score` is how far the network moves a point, divided by the variance of the noise. A chain of
`AutoencoderSampler` proposes random steps and accepts them by what the score says of the density on the way: it starts at
a point of the data, and moves along the curve.
"""

sampler = kr.generative.AutoencoderSampler(denoiser, SIGMA, proposal_stddev=0.15, seed=0)
chain = sampler.sample(np.repeat(x[:20], 5, axis=0), num_steps=2 * EPOCHS)
nearest = np.sqrt(((chain[-1][:, None] - x[None]) ** 2).sum(-1)).min(axis=1)
print(f"steps accepted: {sampler.acceptance_rate_:.0%}")
print(
    f"distance of the end of a chain to the nearest of the data: {np.median(nearest):.3f} in the middle"
)

grid = np.stack(np.meshgrid(np.linspace(-1.8, 1.8, 22), np.linspace(-1.8, 1.8, 22)), axis=-1)
grid = grid.reshape(-1, 2).astype("float32")
score = keras.ops.convert_to_numpy(kr.analysis.autoencoder_score(denoiser, grid, SIGMA))
near = np.sqrt(((grid[:, None] - x[None]) ** 2).sum(-1)).min(axis=1) < 0.35
figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharex=True, sharey=True)
for axis, title in zip(axes, ("Where the score points", "Data, and ends of 100 chains")):
    axis.scatter(*x.T, s=2, color="C7", alpha=0.4)
    axis.set_title(title, fontsize=10)
    axis.set_aspect("equal")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].quiver(*grid[near].T, *score[near].T, color="C0", width=0.004)
axes[1].scatter(*chain[-1].T, s=10, color="C3")
figure.tight_layout()
plt.show()

r"""
The arrows point to the curve from both sides; far from the data the network has seen nothing, and says nothing of use there.
Chains end near the curve, {np.median(nearest):.2f} from the nearest of the data in the middle: as far as the noise
of the training, of which the density knows.

## Noise, or a price on the Jacobian

To second order in the deviation, noise on the inputs is a price on the squared Jacobian. `ContractiveAutoencoder` names
that price: $\sigma^2 / d$ beside Keras' mean squared error of $d$ features. For Gaussian data both end in the same matrix,
$C (C + \sigma^2 I)^{-1}$, so that we can see how near they come:
"""

covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
best = covariance @ np.linalg.inv(covariance + 0.7**2 * np.eye(2))
gaussian = generator.normal(size=(1000, 2))
gaussian = gaussian @ np.linalg.inv(np.linalg.cholesky(gaussian.T @ gaussian / 1000)).T
gaussian = gaussian @ np.linalg.cholesky(covariance).T
errors = {}
for name in ("denoising", "contractive, exact", "contractive, by noise"):
    keras.utils.set_random_seed(0)
    linear = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    if name == "denoising":
        model = kr.models.DenoisingAutoencoder(linear, 0.7, seed=0)
    else:
        method = "exact" if name.endswith("exact") else "noise"
        model = kr.models.ContractiveAutoencoder(linear, 0.7**2 / 2, method=method, seed=0)
    decay = keras.optimizers.schedules.CosineDecay(0.1, 3 * EPOCHS)
    model.compile(keras.optimizers.Adam(decay), "mse")
    model.fit(gaussian, gaussian, batch_size=1000, epochs=3 * EPOCHS, verbose=0)
    kernel = linear.layers[0].get_weights()[0]
    errors[name] = np.abs(kernel - best).max()
    print(f"{name:22s} largest difference to the best matrix {errors[name]:.3f}")

"""
All of them find it, up to {max(errors.values()):.3f}. Noise costs nothing; the exact Jacobian costs as many passes as
there are features, and has no variance.

## A Jacobian of low rank

`JacobianNuclearNorm` puts a price on the sum of the singular values of the Jacobian of encoder and decoder together,
without ever computing one. On scikit-learn's digits, with noise on the pixels that the network is to keep and nobody
tells it of:
"""

digits = load_digits().data / 16
digits = (digits - digits.mean(axis=0)).astype("float32")
noisy = digits + generator.normal(0, 0.25, digits.shape).astype("float32")
train_rows, test_rows = slice(0, 1500), slice(1500, None)


def piece(outputs):
    hidden = keras.layers.Dense(128, activation="relu")
    return keras.Sequential([hidden, keras.layers.Dense(outputs)])


spectra, distances = {}, {"noisy images": np.mean((noisy - digits)[test_rows] ** 2)}
for name, eta in (("without", 0.0), ("nuclear norm", 0.25**2)):
    keras.utils.set_random_seed(0)
    model = kr.models.JacobianNuclearNorm(piece(64), piece(64), factor=2 * eta / 64, seed=0)
    model.compile(keras.optimizers.Adam(0.001), "mse")
    model.fit(noisy[train_rows], noisy[train_rows], batch_size=50, epochs=EPOCHS // 2, verbose=0)
    cleaned = model.predict(noisy[test_rows], verbose=0)
    distances[name] = np.mean((cleaned - digits[test_rows]) ** 2)
    norm = kr.analysis.jacobian_nuclear_norm(model, noisy[test_rows][:50])
    spectra[name] = float(keras.ops.mean(norm))
for name, distance in distances.items():
    found = f"nuclear norm of the Jacobian {spectra[name]:5.1f}" if name in spectra else ""
    print(f"{name:13s} squared error to the clean images {distance:.4f}  {found}")

r"""
Trained to reproduce noisy images and nothing else, the penalized network ends up nearer to the clean ones, which it has
never seen: {distances["nuclear norm"]:.3f}, where the noisy images have {distances["noisy images"]:.3f}. The price of
$\eta = \sigma^2$ for noise of the deviation $\sigma$ is the paper's; the factor is $2 \eta / d$ for Keras' mean.

## Codes of bits

`SignAutoencoder` allows one bit per unit. For Gaussian data the least error is known, as a function of the number of bits
per feature:
"""

gaussian = generator.normal(size=(4000, 32)).astype("float32")
rates, risks, starts = [0.25, 0.5, 0.75, 1.0], [], []
for rate in rates:
    keras.utils.set_random_seed(0)
    model = kr.models.SignAutoencoder(int(32 * rate))
    model.build((None, 32))
    starts.append(kr.analysis.sign_autoencoder_risk(model.kernel.numpy().T))
    decay = keras.optimizers.schedules.CosineDecay(0.01, 40 * EPOCHS // 3)
    model.compile(keras.optimizers.Adam(decay), "mse")
    model.fit(gaussian, gaussian, batch_size=100, epochs=EPOCHS // 3, verbose=0)
    risks.append(kr.analysis.sign_autoencoder_risk(model.kernel.numpy().T))
    limit = kr.analysis.sign_autoencoder_limit(rate)
    print(f"{rate:4.2f} bits per feature: error {risks[-1]:.3f}, the limit is {limit:.3f}")

figure, axis = plt.subplots(figsize=(6, 3.4))
line = np.linspace(0.05, 1.5, 100)
limits = [kr.analysis.sign_autoencoder_limit(rate) for rate in line]
axis.plot(line, limits, color="gray", linestyle=":", label="limit")
axis.plot(rates, starts, "o", color="C7", fillstyle="none", label="before training")
axis.plot(rates, risks, "o", color="C3", label="after training")
axis.set_xlabel("bits per feature")
axis.set_ylabel("squared error per feature")
axis.set_title("Codes of bits, of Gaussian data")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
## Which one

- `DenoisingAutoencoder` for scores and densities: it costs nothing. Choose the noise as large as the structure that may be
  smoothed away.
- `ContractiveAutoencoder` with `target="encoder"` for codes that do not move with what does not matter;
  `method="noise"` beyond some hundred features.
- `JacobianNuclearNorm`, or `layers.JacobianPenalty` around pieces of your own network, where few directions should be
  left at every point.
"""
