"""
# When the average is not enough

A model that is right on average may be wrong for a group of samples nearly always: the groups are small, and
something that is easy to see stands in for what matters in all the others. This guide trains for the worst group
where groups are known, for the worst samples where they are not, and shows what makes the difference between the two
working and not working: regularization.
"""

import os
import pathlib

import keras
import matplotlib
import numpy as np
from sklearn.datasets import load_diabetes

import keras_regularize as kr

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EPOCHS = int(os.environ.get("GUIDE_EPOCHS", 20))
IMAGES = pathlib.Path(os.environ.get("GUIDE_IMAGES", "guides/images"))
IMAGES.mkdir(parents=True, exist_ok=True)

"""
## A shortcut

Two features: a noisy one that carries the label, and one that is easier to see and agrees with the label in 95 % of the
training samples, as the background of a photo agrees with the animal. The four combinations of label and shortcut
are the groups. In the test data the shortcut is right half of the time, so that all groups are equally large.
"""


def draw(size, agreement, seed, noise_features=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, size)
    shortcut = np.where(rng.random(size) < agreement, label, 1 - label)
    features = [
        0.8 * (2 * label - 1) + rng.normal(size=size),
        2.0 * (2 * shortcut - 1) + 0.6 * rng.normal(size=size),
        *rng.normal(size=(noise_features, size)),
    ]
    x = np.stack(features, axis=1).astype("float32")
    return x, {"label": label, "group": 2 * label + shortcut}


train, test = draw(2000, 0.95, seed=0), draw(2000, 0.5, seed=1)
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(inputs=2, units=16):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(2),
        ]
    )


"""
The groups ride in `y`, as a column beside the label. `GroupDRO` gives each group a weight that grows with its loss;
`WorstGroupAccuracy` reads the same column. `RegularizedModel` is the plain step, which knows of columns.
"""


def fit(model, data, test, epochs, batch_size=500, **optimizer):
    model.compile(
        keras.optimizers.AdamW(**optimizer),
        crossentropy,
        metrics=["accuracy", kr.metrics.WorstGroupAccuracy(num_groups=4)],
    )
    return model.fit(
        *data,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=test,
        validation_batch_size=2000,
        verbose=0,
    ).history


models = {
    "plain": kr.models.RegularizedModel(network()),
    "GroupDRO": kr.models.GroupDRO(network(), num_groups=4, step_size=0.05),
}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
grid = np.stack(np.meshgrid(np.linspace(-4, 4, 80), np.linspace(-4, 4, 80)), axis=-1)
some = test[0][:300], test[1]["label"][:300]
for (name, model), axis in zip(models.items(), axes):
    history = fit(model, train, test, EPOCHS, learning_rate=0.05, weight_decay=1e-2)
    print(
        f"{name:9s} accuracy {history['val_accuracy'][-1]:.3f}, "
        f"in the worst group {history['val_worst_group_accuracy'][-1]:.3f}"
    )
    axes[2].plot(history["val_worst_group_accuracy"], label=name)
    logits = model.predict(grid.reshape(-1, 2).astype("float32"), batch_size=6400, verbose=0)
    score = (logits[:, 1] - logits[:, 0]).reshape(80, 80)
    axis.contourf(
        grid[..., 0], grid[..., 1], score > 0, levels=[-1, 0.5, 2], colors=["C0", "C1"], alpha=0.25
    )
    axis.scatter(*some[0].T, c=np.where(some[1] == 1, "C1", "C0"), s=6)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel("core feature")
    axis.set_ylabel("shortcut")
    axis.set_xlim(-4, 4)
    axis.set_ylim(-4, 4)
axes[2].set_xlabel("epoch")
axes[2].set_ylabel("accuracy in the worst group")
axes[2].set_ylim(0, 1)
axes[2].legend(frameon=False, fontsize=8)
axes[2].spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(IMAGES / "group_shifts_boundary.png", dpi=120)
plt.close(figure)

"""
![Decision regions with and without group DRO, and accuracy in the worst group](images/group_shifts_boundary.png)

The plain model cuts along the shortcut: it is right for 59 % of the test samples and for 16 % in the worst group. Group
DRO turns the boundary to the feature that holds in every group: 78 %, and 66 to 77 % in the worst group. The core feature
alone allows 79 %.

## Regularization makes the difference

That was a small network and many samples. A network that can memorize has no worst group among the samples it is trained
on, and then there is nothing to weight. Here the same problem has 500 samples, 30 features of pure noise and a wider
network: weight decay, or stopping early, decides whether anything is left of the gain.
"""

train_few, test_few = draw(500, 0.95, 0, noise_features=30), draw(2000, 0.5, 1, noise_features=30)
figure, axis = plt.subplots(figsize=(6, 3.2))
for decay in (0.0, 30.0):
    model = kr.models.GroupDRO(network(32, 128), num_groups=4, step_size=0.1)
    history = fit(
        model, train_few, test_few, 2 * EPOCHS, 250, learning_rate=0.01, weight_decay=decay
    )
    worst = history["val_worst_group_accuracy"]
    print(
        f"weight decay {decay:4.1f}: worst group in training "
        f"{history['worst_group_accuracy'][-1]:.3f}, in test {worst[-1]:.3f}, "
        f"at best {max(worst):.3f} after {np.argmax(worst) + 1} epochs"
    )
    (line,) = axis.plot(worst, label=f"weight decay {decay:g}: test")
    axis.plot(
        history["worst_group_accuracy"],
        "--",
        color=line.get_color(),
        label=f"weight decay {decay:g}: training",
    )
axis.set_xlabel("epoch")
axis.set_ylabel("accuracy in the worst group")
axis.set_ylim(0, 1.02)
axis.legend(frameon=False, fontsize=8)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(IMAGES / "group_shifts_decay.png", dpi=120)
plt.close(figure)

"""
![Accuracy in the worst group with and without weight decay](images/group_shifts_decay.png)

Without weight decay the worst group is learnt by heart, and its accuracy in test falls to 0.20, hardly more than what
plain training gives. With strong decay it ends at 0.34. Stopping after the best epoch, found on validation data
with groups, gives 0.39 and 0.44: both help, and they help together.

## Groups that nobody wrote down

Without groups one can still train for the worst samples. `CVaR` averages the losses of the worst fraction of a batch;
`SpectralRisk` has softer ways to weight them. Any loss goes inside. Here a tenth of the samples follows another law
than the rest, and a linear model has to make do for both.
"""

rng = np.random.default_rng(0)
x = rng.normal(size=(2000, 5)).astype("float32")
hidden = rng.random(2000) < 0.1
laws = rng.normal(size=(2, 5))
y = np.where(hidden, x @ laws[1], x @ laws[0])[:, None] + 0.3 * rng.normal(size=(2000, 1))

losses = {
    "mean": "mean_squared_error",
    "extremile": kr.losses.SpectralRisk("mean_squared_error", "extremile", 4.0, shift_cost=0.5),
    "worst tenth": kr.losses.CVaR("mean_squared_error", tail=0.1),
}
for name, loss in losses.items():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(x, y, batch_size=200, epochs=2 * EPOCHS, verbose=0)
    error = np.square(model.predict(x, batch_size=2000, verbose=0) - y)[:, 0]
    print(
        f"{name:12s} squared error {error[~hidden].mean():.2f} in the majority, "
        f"{error[hidden].mean():.2f} in the minority"
    )

"""
From the mean to the worst tenth, the error of the minority falls from 8.8 to 6.2, though no one told the model who belongs to
it; the majority pays with 0.2 to 0.8. Such losses help where the hard samples are the neglected ones. They do not help where samples are hard because
they are noise, as in the shortcut problem above, whose classes overlap: then the worst samples are the mislabelled
ones, and knowing the groups is worth a lot.

## The risk of all the data

A loss sees one batch, and the worst of a batch are not the worst of the data: the gradient is biased, and noisy on
top. `Prospect` remembers the last loss of every sample, and for small models its last gradient, which takes the
noise out as well. Samples are told apart by their index, which `with_index` adds to `y`. Ridge regression on scikit-learn's
diabetes data, for the extremile of the squared errors:
"""

x, y = load_diabetes(return_X_y=True)
x = ((x - x.mean(0)) / x.std(0)).astype("float32")
y = ((y - y.mean()) / y.std()).astype("float32")[:, None]
extremile = {"spectrum": "extremile", "parameter": 2.0, "shift_cost": 1.0}
risk = kr.losses.SpectralRisk("mean_squared_error", **extremile)


def ridge():
    regularizer = keras.regularizers.L2(0.1)
    dense = keras.layers.Dense(
        1, use_bias=False, kernel_initializer="zeros", kernel_regularizer=regularizer
    )
    return keras.Sequential([keras.Input((10,)), dense])


def objective(net):
    kernel = net.get_weights()[0]
    return float(risk(y, x @ kernel)) + 0.1 * float(np.sum(kernel**2))


exact = ridge()
exact.compile(keras.optimizers.SGD(0.1), risk)
exact.fit(x, y, batch_size=len(x), epochs=20 * EPOCHS, shuffle=False, verbose=0)
best = objective(exact)

runs = {
    "SGD on the risk of a batch": lambda net: (net, risk, y),
    "Prospect without gradients": lambda net: (
        kr.models.Prospect(net, len(x), **extremile, gradient_table=False),
        "mean_squared_error",
        kr.utils.with_index(y),
    ),
    "Prospect": lambda net: (
        kr.models.Prospect(net, len(x), **extremile),
        "mean_squared_error",
        kr.utils.with_index(y),
    ),
}
figure, axis = plt.subplots(figsize=(6, 3.2))
for name, run in runs.items():
    net = ridge()
    model, loss, labels = run(net)
    model.compile(keras.optimizers.SGD(0.04), loss)
    if name == "Prospect":
        model.fill_tables(x, y)
    gaps = []
    follow = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: gaps.append(max(objective(net) - best, 1e-7))  # noqa: B023
    )
    keras.utils.set_random_seed(0)
    model.fit(x, labels, batch_size=16, epochs=EPOCHS, callbacks=[follow], verbose=0)
    print(f"{name:27s} {gaps[-1]:.1e} above the minimum")
    axis.semilogy(np.arange(1, len(gaps) + 1), gaps, label=name)
axis.set_xlabel("epoch")
axis.set_ylabel("risk above its minimum")
axis.legend(frameon=False, fontsize=8)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(IMAGES / "group_shifts_prospect.png", dpi=120)
plt.close(figure)

"""
![Risk above its minimum over epochs](images/group_shifts_prospect.png)

At the same constant learning rate both others stay 0.01 to 0.1 above the minimum, on the noise of their gradients. Prospect
goes on to the last digits of float32. It pays for it with a gradient for each sample of a batch: take it where the
solution has to be exact, and the table, one gradient per sample, fits into memory.

## Which one

- Groups known: `GroupDRO`, with strong regularization or early stopping, and `WorstGroupAccuracy` on validation data.
- Groups unknown, clean labels: `CVaR` or `SpectralRisk` with large batches; a shift cost if some labels may be wrong.
- The risk of a fixed data set, to high accuracy: `Prospect`, with its table of gradients for small models.

`GroupDRO` nests like every train step: `SAM(GroupDRO(model, 4))` looks for flat minima of the worst group.
"""
