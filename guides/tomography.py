"""
# Tomography: images from few views

A scanner measures sums of an image along lines. With few views there are fewer sums than pixels, and many images explain
them; total variation chooses the one of few flat pieces. This guide reconstructs a phantom from noisy projections by
total variation, then by weights that spare the edges of a first estimate.

**Use this when** measurements are linear in the image, there are fewer of them than pixels or they are noisy, and the
image is made of regions rather than of fine texture.

**Do not when** there are views enough: filtered back projection is then as good and a hundred times as fast.
"""

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_regularize as kr

SIZE = 32
VIEWS = 12
STEPS = 500

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


phantom = random_phantom().astype("float32")

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
phantoms before scanning patients. The least-norm solution, without singular values below a twentieth of the largest,
is there for comparison: it knows nothing of images.
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
    "least norm": ((np.linalg.pinv(matrix, 0.05) @ y[0]).reshape(SIZE, SIZE), 0.0),
    "total variation": best(
        lambda factor: kr.inverse.chambolle_pock(y, matrix, factor, (SIZE, SIZE), iterations=STEPS)
    ),
}

"""
## Weights that know the edges

`space_variant_reconstruct` weighs each pixel down where an estimate of the image has an edge. The estimate is the
solution itself after few iterations (`"tv"`), an image, here the best one by total variation from above and, to see how
far this could lead, the true one, or a model that makes better images of the rough ones. A model is trained on pairs of
rough and true images by `kr.losses.ElasticGradient`, as any Keras model is, and passed as `pre_estimate=model`.
"""

results["edges of few iterations"] = best(weighted("tv"))
results["edges of the solution"] = best(weighted(results["total variation"][0][None]))
results["true edges"] = best(weighted(phantom[None]))

for name, (image, factor) in results.items():
    print(f"{name:24s} factor {factor:3.1f}   root mean squared error {error(image):.4f}")

figure, axes = plt.subplots(2, 3, figsize=(9, 6.8), layout="constrained")
shown = {"the phantom": (phantom, 0.0), **results}
for axis, (name, (image, _)) in zip(axes.flat, shown.items()):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(name if image is phantom else f"{name}: {error(image):.3f}")
    axis.axis("off")
figure.suptitle("Reconstructions from twelve views, with their errors")
plt.show()

plain, rough = error(results["total variation"][0]), error(results["edges of few iterations"][0])
better, ideal = error(results["edges of the solution"][0]), error(results["true edges"][0])

"""
Plain total variation has an error of {plain:.3f}. Weights from a rough solution give {rough:.3f}, those of the solution
{better:.3f}, and those of the true image, which nobody has, {ideal:.3f}: what a better estimate is worth lies between. One
phantom and one draw of noise do not settle which estimate is best; try it on data of yours.

For larger images pass the pair of functions instead of the matrix, and compile calls of yours in a loop: the solvers are
pure functions of tensors, for `jax.jit` or `tf.function`.
"""
