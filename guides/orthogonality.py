"""
# Orthogonal filters and singular values

A layer passes signals and gradients on evenly if the singular values of its kernel are all near one, and its filters are
redundant if they point the same way. Several regularizers act on either. This guide sets each on the hidden layers of
a small network for scikit-learn's digits and looks at what it does to the kernels, and whether accuracy gains by it.

**Use this when** something needs well conditioned kernels or distinct filters: a deep network, a bounded Lipschitz
constant, features that shall not be redundant.

**Do not when** all you want is accuracy from a shallow network: here none of them buys any that is beyond chance.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 40
SEEDS = 2

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:300], y[:300], x[300:], y[300:]

"""
## The regularizers

- `SoftOrthogonality` draws all singular values to one: for a square or tall kernel the filters become orthonormal.
- `SRIP` does so for the one that is farthest from one, `Spectral` for the largest.
- `MutualCoherence` lowers the largest product of two filters.
- `GOR` makes the filters orthonormal within groups, here six groups of eight, and leaves different groups alone.
- `NormLoss` draws the length of every filter to one, in whatever direction.
- `MHE` lets the directions of filters repel each other, whatever their lengths; with `half_space` also from the
  opposite directions.
"""

regularizers = {
    "nothing": None,
    "SoftOrthogonality": kr.regularizers.SoftOrthogonality(0.01),
    "SRIP": kr.regularizers.SRIP(0.1),
    "MutualCoherence": kr.regularizers.MutualCoherence(0.1),
    "GOR": kr.regularizers.GOR(0.1, num_groups=6),
    "NormLoss": kr.regularizers.NormLoss(0.1),
    "MHE": kr.regularizers.MHE(10.0, half_space=True),
    "Spectral": kr.regularizers.Spectral(0.1),
}


def trained(regularizer, seed):
    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(48, activation="relu", kernel_regularizer=regularizer) for _ in range(3)
    ]
    net = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    net.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    net.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0)
    return net


def cosines(kernel):
    """|cos| of the angles between all pairs of filters."""
    units = kernel / np.linalg.norm(kernel, axis=0)
    return np.abs(units.T @ units)[np.triu_indices(kernel.shape[1], 1)]


singular, grams, found = {}, {}, {}


def measure(name, regularizer):
    """Means over the seeds of accuracy, condition number, mean |cos| and length of the filters."""
    rows = []
    for seed in range(SEEDS):
        net = trained(regularizer, seed)
        kernels = [keras.ops.convert_to_numpy(layer.kernel) for layer in net.layers[:-1]]
        values = [np.linalg.svd(kernel, compute_uv=False) for kernel in kernels]
        rows.append(
            [
                np.mean(net.predict_on_batch(x_test).argmax(axis=-1) == y_test),
                np.median([value[0] / value[-1] for value in values]),
                np.mean([cosines(kernel).mean() for kernel in kernels]),
                np.mean([np.linalg.norm(kernel, axis=0).mean() for kernel in kernels]),
            ]
        )
    singular[name], grams[name] = values[1], kernels[1].T @ kernels[1]
    accuracy, condition, cosine, length = found[name] = np.mean(rows, axis=0)
    print(f"{name:22s} {accuracy:8.3f} {condition:17.1f} {cosine:11.3f} {length:14.2f}")


print(f"{'':22s} accuracy  condition number  mean |cos|  filter length")
for name, regularizer in regularizers.items():
    measure(name, regularizer)

"""
Each does what it says, and no more:

- `SoftOrthogonality` gives by far the flattest singular values, and filters that are almost orthogonal.
- `SRIP` bounds them from both sides and lets them spread in between. `Spectral` bounds them from above alone: the
  smallest stays near zero.
- `MHE` turns the filters apart without caring for their lengths, so the condition number stays far from one.
- `GOR` and `MutualCoherence` act on few of the pairs: the average over all hardly changes.
- `NormLoss` sets the lengths and leaves the rest to training.

Accuracy hardly tells them apart: all lie within little more than a percentage point, with a standard error of about half a
point from the test data alone. A small network with three hidden layers trains well
without help. So choose by what else is needed: a bounded Lipschitz constant (`Spectral`), a well conditioned deep
network (`SoftOrthogonality`), filters that are not redundant (`MHE`), or a decay of weights that has no pull to zero
(`NormLoss`).

## How strong

Ten times as much of the two that act on both ends of the singular values:
"""

measure("SRIP, 1.0", kr.regularizers.SRIP(1.0))
measure("SoftOrthogonality, 0.1", kr.regularizers.SoftOrthogonality(0.1))

"""
Too much can cost accuracy: `SRIP` brings the condition number down to {found["SRIP, 1.0"][1]:.1f} and the accuracy to
{found["SRIP, 1.0"][0]:.2f}. `SoftOrthogonality` gets to a condition number of
{found["SoftOrthogonality, 0.1"][1]:.1f} at an accuracy of {found["SoftOrthogonality, 0.1"][0]:.2f}.

The penalties of `SoftOrthogonality` and `GOR` are sums that grow with the width, those of `SRIP`, `Spectral` and
`MutualCoherence` are single values that do not, and `MHE` is a mean, which explains why the factors differ so much. The
authors of `SoftOrthogonality` and `SRIP` lower theirs during training, which `kr.models.WeightPenalty` does with a
schedule as factor.

## In pictures

The products of all pairs of filters of the second layer: the diagonal is their squared lengths, and off it is what
they have in common.
"""

figure, axes = plt.subplots(2, 3, figsize=(8, 5.4))
shown = ["nothing", "SoftOrthogonality", "MutualCoherence", "GOR", "NormLoss", "MHE"]
for axis, name in zip(axes.ravel(), shown):
    axis.imshow(grams[name], cmap="RdBu", vmin=-1, vmax=1)
    axis.set_title(name, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
figure.tight_layout()
plt.show()

"""
And its singular values:
"""

figure, axis = plt.subplots(figsize=(8, 3.6))
for name in regularizers:
    axis.plot(np.arange(1, 49), singular[name], label=name)
axis.axhline(1, color="black", lw=0.6, ls=":")
axis.set_title("singular values of the second layer", fontsize=10)
axis.set_xlabel("in falling order")
axis.set_ylim(bottom=0)
axis.legend(frameon=False, fontsize=9, ncols=2)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()
