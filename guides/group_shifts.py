"""
# When the average is not enough

A model that is right on average may be wrong for a group of samples nearly always: the groups are small, and
something that is easy to see stands in for what matters in all the others. This guide trains for the worst group
where groups are known, for the worst samples where they are not, and shows what makes the difference between the two
working and not working: regularization.

**Use this when** the worst group, or the worst tenth of the samples, matters more than the average.

**Do not when** the samples with a large loss are those with a wrong label: the worst of them are then what should not be
learnt, see [noisy labels](noisy_labels.md).
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

import keras_regularize as kr

EPOCHS = 20

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
found = {}
for name, model in models.items():
    found[name] = fit(model, train, test, EPOCHS, learning_rate=0.05, weight_decay=1e-2)
    print(
        f"{name:9s} accuracy {found[name]['val_accuracy'][-1]:.3f}, "
        f"in the worst group {found[name]['val_worst_group_accuracy'][-1]:.3f}"
    )

"""
The decision regions, with some of the test samples:
"""

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
grid = np.stack(np.meshgrid(np.linspace(-4, 4, 80), np.linspace(-4, 4, 80)), axis=-1)
some = test[0][:300], test[1]["label"][:300]
for (name, model), axis in zip(models.items(), axes):
    logits = model.predict(grid.reshape(-1, 2).astype("float32"), batch_size=6400, verbose=0)
    score = (logits[:, 1] - logits[:, 0]).reshape(80, 80)
    axis.contourf(
        grid[..., 0], grid[..., 1], score > 0, levels=[-1, 0.5, 2], colors=["C0", "C1"], alpha=0.25
    )
    axis.scatter(*some[0].T, c=np.where(some[1] == 1, "C1", "C0"), s=6)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel("core feature")
    axis.set_xlim(-4, 4)
    axis.set_ylim(-4, 4)
axes[0].set_ylabel("shortcut")
figure.tight_layout()
plt.show()

"""
The plain model cuts along the shortcut: it is right for {found["plain"]["val_accuracy"][-1]:.0%} of the test samples and for
{found["plain"]["val_worst_group_accuracy"][-1]:.0%} in the worst group. `GroupDRO` turns the boundary to the feature that holds
in every group: {found["GroupDRO"]["val_accuracy"][-1]:.0%}, and {found["GroupDRO"]["val_worst_group_accuracy"][-1]:.0%} in the
worst group. The core feature alone allows 79 %.

## Regularization makes the difference

That was a small network and many samples. A network that can memorize has no worst group among the samples it is trained
on, and then there is nothing to weight. Here the same problem has 500 samples, 30 features of pure noise and a wider
network: weight decay, or stopping early, decides whether anything is left of the gain.
"""

train_few, test_few = draw(500, 0.95, 0, noise_features=30), draw(2000, 0.5, 1, noise_features=30)
decayed = {}
for decay in (0.0, 30.0):
    model = kr.models.GroupDRO(network(32, 128), num_groups=4, step_size=0.1)
    history = fit(
        model, train_few, test_few, 2 * EPOCHS, 250, learning_rate=0.01, weight_decay=decay
    )
    decayed[decay] = history["worst_group_accuracy"], history["val_worst_group_accuracy"]
    training, worst = decayed[decay]
    print(
        f"weight decay {decay:4.1f}: worst group in training {training[-1]:.3f}, in test "
        f"{worst[-1]:.3f},\n{'':19s}at best {max(worst):.3f} after {np.argmax(worst) + 1} epochs"
    )

"""
Over the epochs:
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for (decay, (training, worst)), color in zip(decayed.items(), ("C0", "C1")):
    axis.plot(worst, color=color, label=f"weight decay {decay:g}: test")
    axis.plot(training, "--", color=color, label=f"weight decay {decay:g}: training")
axis.set_title("accuracy in the worst group, with and without weight decay", fontsize=10)
axis.set_xlabel("epoch")
axis.set_ylabel("accuracy")
axis.set_ylim(0, 1.02)
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
Without weight decay the worst group is learnt by heart, and its accuracy in test falls to {decayed[0.0][1][-1]:.2f}. With
strong decay it ends at {decayed[30.0][1][-1]:.2f}. Stopping after the best epoch, found on validation data with groups, gives
{max(decayed[0.0][1]):.2f} without decay and {max(decayed[30.0][1]):.2f} with it: the decay does not replace stopping, but makes it
matter less when.

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
errors = {}
for name, loss in losses.items():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(x, y, batch_size=200, epochs=2 * EPOCHS, verbose=0)
    error = np.square(model.predict(x, batch_size=2000, verbose=0) - y)[:, 0]
    errors[name] = error[~hidden].mean(), error[hidden].mean()
    print(
        f"{name:12s} squared error {errors[name][0]:.2f} in the majority, "
        f"{errors[name][1]:.2f} in the minority"
    )

"""
From the mean to the worst tenth, the error of the minority falls from {errors["mean"][1]:.1f} to
{errors["worst tenth"][1]:.1f}, though no one told the model who belongs to it; the majority pays with
{errors["worst tenth"][0]:.1f} instead of {errors["mean"][0]:.1f}. Such losses help where the hard samples are the neglected
ones. They do not help where samples are hard because they are noise, as in the shortcut problem above, whose classes
overlap: then the worst samples are the mislabelled ones, and knowing the groups is worth a lot.

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
curves = {}
for name, run in runs.items():
    net = ridge()
    model, loss, labels = run(net)
    model.compile(keras.optimizers.SGD(0.04), loss)
    if name == "Prospect":
        model.fill_tables(x, y)
    gaps = curves[name] = []
    follow = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: gaps.append(max(objective(net) - best, 1e-7))  # noqa: B023
    )
    keras.utils.set_random_seed(0)
    model.fit(x, labels, batch_size=16, epochs=EPOCHS, callbacks=[follow], verbose=0)
    print(f"{name:27s} {gaps[-1]:.1e} above the minimum")

"""
Over the epochs:
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for name, gaps in curves.items():
    axis.semilogy(np.arange(1, len(gaps) + 1), gaps, label=name)
axis.set_title("risk of all the data, above its minimum", fontsize=10)
axis.set_xlabel("epoch")
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
At the same constant learning rate both others stay well above the minimum, on the noise of their gradients. `Prospect`
goes on to the last digits of float32. It pays for it with a gradient for each sample of a batch: take it where the
solution has to be exact, and the table, one gradient per sample, fits into memory.

## Which one

- Groups known: `GroupDRO`, with strong regularization or early stopping, and `WorstGroupAccuracy` on validation data.
- Groups unknown, clean labels: `CVaR` or `SpectralRisk` with large batches; a shift cost if some labels may be wrong.
- The risk of a fixed data set, to high accuracy: `Prospect`, with its table of gradients for small models.

`GroupDRO` nests like every train step: `SAM(GroupDRO(model, 4))` looks for flat minima of the worst group.

The worst group in the first part, epoch by epoch:
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for name, history in found.items():
    axis.plot(np.arange(1, EPOCHS + 1), history["val_worst_group_accuracy"], label=name)
axis.set_title("accuracy in the worst group", fontsize=10)
axis.set_xlabel("epoch")
axis.set_ylim(0, 1)
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()
