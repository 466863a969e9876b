"""
# Tomography: images from few views

A scanner measures sums of an image along lines. With few views there are fewer sums than pixels, and many images explain
them; total variation chooses the one of few flat pieces. This guide reconstructs a phantom from noisy projections by
total variation, then by weights that spare the edges of a first estimate, and trains a small network to give that
estimate.

**Use this when** measurements are linear in the image, there are fewer of them than pixels or they are noisy, and the
image is made of regions rather than of fine texture.

**Do not when** there are views enough: filtered back projection is then as good and a hundred times as fast.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_regularize as kr

SIZE = 32
VIEWS = 12
STEPS = 500
EPOCHS = 30

rng = np.random.default_rng(0)
rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


def ellipse(image, value, center, radii, angle):
    """The image with a value added inside of an ellipse."""
    y, x = rows - center[0], columns - center[1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return image + value * ((along / radii[0]) ** 2 + (across / radii[1]) ** 2 < 1)


def random_phantom():
    """A body with some organs."""
    image = ellipse(np.zeros((SIZE, SIZE)), 0.5, (0, 0), rng.uniform(11, 15, 2), 0.0)
    for _ in range(5):
        center, radii = rng.uniform(-7, 7, 2), rng.uniform(1.5, 5, 2)
        image = ellipse(image, rng.choice([-0.3, 0.25, 0.45]), center, radii, rng.uniform(0, 3))
    return np.clip(image, 0, 1)


images = np.stack([random_phantom() for _ in range(81)]).astype("float32")
phantom, others = images[0], images[1:]

"""
## The measurements

`radon_operator` gives the projections in parallel beams and their exact adjoint, as a pair of functions or, for small
images, as a matrix. Noise of two percent of the largest sum is added.
"""

angles = np.linspace(0.0, np.pi, VIEWS, endpoint=False)
matrix = kr.inverse.radon_operator((SIZE, SIZE), angles, dense=True)


def measured(image):
    clean = image.reshape(-1, SIZE * SIZE) @ matrix.T
    noise = 0.02 * clean.max() * rng.normal(size=clean.shape)
    return (clean + noise).astype("float32")


y = measured(phantom)
print(f"{y.size} measurements of {phantom.size} pixels")

figure, axes = plt.subplots(1, 2, figsize=(7, 3))
axes[0].imshow(phantom, cmap="gray", vmin=0, vmax=1)
axes[0].set_title("the phantom")
axes[1].imshow(y.reshape(VIEWS, -1), cmap="gray", aspect="auto")
axes[1].set(title="its projections", xlabel="detector", ylabel="view")
figure.tight_layout()
plt.show()

"""
## Total variation

`chambolle_pock` minimizes $\\frac12 \\|A x - y\\|^2 + \\lambda \\sum_i |D x|_i$ over images without negative entries. What
follows compares methods with the best of four factors each, found by looking at the true image, as one does on
phantoms before scanning patients. The least-norm solution, which knows nothing of images, is there for comparison.
"""

factors = (0.1, 0.3, 1.0, 3.0)


def error(image):
    return float(np.sqrt(np.mean((image - phantom) ** 2)))


def best(solve):
    """The best image over the factors, and its factor."""
    found = [np.asarray(ops.convert_to_numpy(solve(factor)))[0] for factor in factors]
    least = int(np.argmin([error(image) for image in found]))
    return found[least], factors[least]


def weighted(pre_estimate):
    """The solver with the weights of an estimate."""
    return lambda factor: kr.inverse.space_variant_reconstruct(
        y, matrix, factor, (SIZE, SIZE), pre_estimate, eta=0.02, p=0.2, iterations=STEPS
    )


results = {
    "least norm": ((np.linalg.pinv(matrix) @ y[0]).reshape(SIZE, SIZE), 0.0),
    "total variation": best(
        lambda factor: kr.inverse.chambolle_pock(y, matrix, factor, (SIZE, SIZE), iterations=STEPS)
    ),
}

"""
## Weights that know the edges

`space_variant_reconstruct` weighs each pixel down where an estimate of the image has an edge. The estimate is the
solution itself after few iterations (`"tv"`), or what a model makes of that. Here a network of three convolutions
is trained on eighty other phantoms, from their rough solutions to the true images, by `ElasticGradient`: squared
error, and the error of the differences between pixels, of which the weights are made.
"""

rough = kr.inverse.chambolle_pock(measured(others), matrix, 0.3, (SIZE, SIZE), iterations=50)
rough = np.asarray(ops.convert_to_numpy(rough))[..., None]

keras.utils.set_random_seed(0)
convolution = {"kernel_size": 5, "padding": "same", "data_format": "channels_last"}
inputs = keras.Input((SIZE, SIZE, 1))
hidden = keras.layers.Conv2D(16, activation="relu", **convolution)(inputs)
hidden = keras.layers.Conv2D(16, activation="relu", **convolution)(hidden)
network = keras.Model(inputs, inputs + keras.layers.Conv2D(1, **convolution)(hidden))
network.compile(keras.optimizers.Adam(3e-3), kr.losses.ElasticGradient(0.5))
network.fit(rough, others[..., None], batch_size=8, epochs=EPOCHS, verbose=0)

results["own edges"] = best(weighted("tv"))
results["edges of the network"] = best(weighted(network))
results["true edges"] = best(weighted(phantom[None]))

for name, (image, factor) in results.items():
    print(f"{name:22s} factor {factor:3.1f}   root mean squared error {error(image):.4f}")

figure, axes = plt.subplots(2, 3, figsize=(9, 6.4))
shown = {"the phantom": (phantom, 0.0), **results}
for axis, (name, (image, _)) in zip(axes.flat, shown.items()):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(name if image is phantom else f"{name}: {error(image):.3f}")
    axis.axis("off")
figure.suptitle("Reconstructions from twelve views, with their errors")
figure.tight_layout()
plt.show()

plain, own = error(results["total variation"][0]), error(results["own edges"][0])
learned, ideal = error(results["edges of the network"][0]), error(results["true edges"][0])

"""
Plain total variation has an error of {plain:.3f}. Weights from its own rough solution give {own:.3f}, those of the network
{learned:.3f}, and those of the true image, which nobody has, {ideal:.3f}: what an estimate is worth lies between. One
phantom and one draw of noise do not settle which estimate is best; try it on data of yours.

For larger images pass the pair of functions instead of the matrix, and compile calls of yours in a loop: the solvers are
pure functions of tensors, for `jax.jit` or `tf.function`.
"""
