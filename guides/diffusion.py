"""
# Diffusion models

A diffusion model learns to take noise off data, at all levels of noise; from pure noise, step by step, it then makes new
data. `DenoisingDiffusion` wraps any network of noisy data and time: `fit` trains it, `sample` draws. This guide draws digits,
makes samples keep a law, keeps outliers of the data from being drawn, learns from data that have noise themselves, and ends
with a model that is not trained at all.

**Use this when** you want new data like those you have, from tables and curves to images, or a prior for an inverse problem.

**Do not when** a density or a few parameters are asked for: a mixture of Gaussians is simpler, and says how likely a point is.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 60

"""
## Digits, by their class

scikit-learn's 8×8 digits, scaled to $[-1, 1]$. The network takes noisy images, the time step and the class: what it is told
of a sample goes into the inputs, `fit([x, labels])`. Averages of the weights are the optimizer's, by `use_ema`.
"""

digits, labels = load_digits(return_X_y=True)
x = (digits / 8 - 1).astype("float32")
labels = labels.astype("int32")
TIMES = 100


def network(features, units=256, classes=None, times=TIMES):
    keras.utils.set_random_seed(0)
    noisy, t = keras.Input((features,)), keras.Input((), dtype="int32")
    inputs, told = [noisy, t], layers.Embedding(times, units)(t)
    if classes:
        inputs.append(keras.Input((), dtype="int32"))
        told = told + layers.Embedding(classes, units)(inputs[-1])
    hidden = layers.Dense(units)(noisy)
    for _ in range(2):
        moved = layers.Dense(units)(ops.silu(hidden + told))
        hidden = hidden + layers.Dense(units)(ops.silu(moved))
    return keras.Model(inputs, layers.Dense(features)(ops.silu(hidden)))


model = kr.models.DenoisingDiffusion(network(64, classes=10), TIMES, seed=0)
model.compile(keras.optimizers.Adam(0.001, use_ema=True, ema_momentum=0.99), loss="mse")
losses = model.fit([x, labels], batch_size=128, epochs=EPOCHS, verbose=0).history["loss"]
print(f"loss {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")

wanted = np.repeat(np.arange(10, dtype="int32"), 2)
drawn = {
    "Training images": x[[np.flatnonzero(labels == c)[i] for c in range(10) for i in (0, 1)]],
    "Drawn by ddpm, 100 steps": model.sample(20, "ddpm", conditions=wanted, clip=(-1, 1), seed=0),
    "Drawn by ddim, 10 steps": model.sample(20, "ddim", 10, wanted, clip=(-1, 1), seed=0),
}


def show(rows, columns=20):
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 0.85 * len(rows)))
    for axis, (title, images) in zip(axes, rows.items()):
        strip = np.pad(images.reshape(-1, 8, 8), [(0, 0), (1, 1), (1, 1)], constant_values=-1)
        axis.imshow(np.concatenate(strip[:columns], axis=1), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    plt.show()


show(drawn)

"""
Are they the digits that were asked for? A nearest neighbour among the training images says so of most:
"""


def nearest(points, data):
    distances = np.sqrt(np.sum((points[:, None] - data[None]) ** 2, axis=-1))
    return distances.argmin(axis=1), distances.min(axis=1)


asked = np.repeat(np.arange(10, dtype="int32"), 20)
new = model.sample(200, "ddim", 20, conditions=asked, clip=(-1, 1), seed=1)
index, distance = nearest(new, x)
right = np.mean(labels[index] == asked)
among = np.array([np.sort(nearest(x[i : i + 1], np.delete(x, i, 0))[1])[0] for i in range(100)])
print(f"of 200 drawn digits {right:.0%} have a nearest training image of the class asked for")
print(f"distance to it {distance.mean():.1f}; of a training image to the next {among.mean():.1f}")

r"""
They are new: as far from the training images as these are from each other ({distance.mean():.1f} and {among.mean():.1f}).

## Samples that keep a law

Points on a circle are known to have $\|x\|^2 = 1$. `PhysicsInformedDiffusion` is told so by a residual, a differential
equation in the paper. With the same network and the same number of steps:
"""

angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 2048)
circle = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype("float32")


def law(points):
    return ops.sum(points * points, axis=-1, keepdims=True) - 1.0


points, residual = {}, {}
for weight in (0.0, 0.1):
    informed = kr.models.PhysicsInformedDiffusion(
        network(2, 64), law, TIMES, residual_weight=weight, seed=0
    )
    informed.compile(keras.optimizers.Adam(0.003, use_ema=True, ema_momentum=0.98))
    informed.fit(circle, batch_size=128, epochs=EPOCHS // 3, verbose=0)
    points[weight] = informed.sample(500, seed=0)
    residual[weight] = np.abs(np.sum(points[weight] ** 2, axis=1) - 1).mean()
    print(f"weight of the law {weight:.1f}: residual {residual[weight]:.3f}")

figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), sharex=True, sharey=True)
for axis, (weight, found) in zip(axes, points.items()):
    axis.scatter(*found.T, s=4, color="C0" if weight == 0 else "C3")
    axis.set_title(f"Weight {weight}: residual {residual[weight]:.3f}", fontsize=10)
    axis.set_aspect("equal")
    axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
The residual of the samples falls from {residual[0.0]:.3f} to {residual[0.1]:.3f}. Too large a weight moves all samples to
where the law is easiest to keep: look at them.

## Outliers of the data

Five in a hundred of these numbers are wrong. By squared error they are drawn as well. The pseudo-Huber loss is robust, and by
`delta_schedule` most where there is much noise, which is where it is decided what is drawn:
"""

rng = np.random.default_rng(0)
numbers = rng.choice([-1.0, 1.0], (2048, 1)) + 0.1 * rng.normal(size=(2048, 1))
numbers[rng.random(2048) < 0.05] = 6.0
values, share = {"data": numbers}, {}
robust = kr.losses.PseudoHuber(0.1, scaling="l2")
for name, loss, schedule in (("mse", "mse", None), ("pseudo-Huber", robust, "exponential")):
    of_numbers = kr.models.DenoisingDiffusion(
        network(1, 64), TIMES, delta_schedule=schedule, seed=0
    )
    of_numbers.compile(keras.optimizers.Adam(0.003, use_ema=True, ema_momentum=0.98), loss)
    of_numbers.fit(numbers.astype("float32"), batch_size=128, epochs=EPOCHS // 2, verbose=0)
    values[name] = of_numbers.sample(2000, seed=0)
for name, found in values.items():
    share[name] = np.mean(found > 2.5)
    print(f"{name:13s} {share[name]:.1%} above 2.5")

figure, axis = plt.subplots(figsize=(7, 2.8))
for name, color in zip(values, ("C7", "C0", "C3")):
    axis.hist(
        values[name].ravel(),
        np.linspace(-3, 8, 100),
        histtype="step",
        color=color,
        label=name,
        density=True,
    )
axis.set_title("Two clusters, and five percent of outliers at 6", fontsize=10)
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

r"""
By squared error {share["mse"]:.0%} of the numbers drawn are above 2.5, more than of the data, and the cluster next to the
outliers moves towards them. By the robust loss it is {share["pseudo-Huber"]:.0%}, and the clusters stay where they are; both
are narrower than those of the data.

## From noisy data alone

There may be no clean data. `SUREScore` estimates the error of a denoiser without them, by Stein's formula, and trains scores
of all noise levels on what it makes of the noisy ones. Here noise of the deviation 0.5 is on the digits:
"""

SIGMA = 0.5
noisy = (x + rng.normal(0, SIGMA, x.shape)).astype("float32")
image, sigma = keras.Input((64,)), keras.Input((1,))
hidden = layers.Dense(256, "silu")(layers.Concatenate()([image, ops.log(sigma)]))
hidden = layers.Dense(256, "silu")(hidden)
scores = keras.Model([image, sigma], layers.Dense(64)(hidden) / sigma)
blind = kr.models.SUREScore(scores, SIGMA, np.geomspace(4.0, 0.2, 12), score_weight=1e-4, seed=0)
blind.compile(keras.optimizers.Adam(0.002))
blind.fit(noisy[:1500], batch_size=50, epochs=EPOCHS // 3, verbose=0)
cleaned = blind.denoise(noisy[1500:])
errors = {
    "noisy": np.mean((noisy - x)[1500:] ** 2),
    "denoised": np.mean((cleaned - x[1500:]) ** 2),
}
for name, error in errors.items():
    print(f"squared error of {name} images {error:.3f}")
show({"Clean, never seen": x[1500:], "Noisy": noisy[1500:], "Denoised": cleaned})

"""
## Without training

The score of finitely many data is known in closed form; it leads back to these data. `ClosedFormDiffusion` smooths it, and
draws means of data that are near each other:
"""

closed, far = {}, {}
for smoothing in (0.0, 0.4, 1.0):
    diffusion = kr.generative.ClosedFormDiffusion(x, smoothing, num_noise=4, seed=0)
    images = diffusion.sample(20, steps=50)
    closed[f"Smoothing {smoothing}"] = images
    far[smoothing] = nearest(images, x)[1].mean()
    print(f"smoothing {smoothing}: distance to the nearest training image {far[smoothing]:.2f}")
show(closed)

"""
Without smoothing the model has memorized the data, {far[0.0]:.2f} from the nearest image. With it images are new, and in the
end blurred: they are means.

## Which one

- `DenoisingDiffusion` with the default `prediction="x0"` for tables, curves and small networks; `"v"` for images and large
  ones. `schedule="edm"` needs no number of time steps, and `sampler="heun"` draws in 18 steps.
- `"ddim"` in 20 to 50 steps where time matters, `"ddpm"` where it does not; `clip` for images.
- `losses.PseudoHuber` and `delta_schedule` where the data have outliers; `PhysicsInformedDiffusion` where a law is known.
- `SUREScore` and `generative.langevin` for inverse problems without clean data; `ClosedFormDiffusion` to see how much is in
  the data themselves.
"""
