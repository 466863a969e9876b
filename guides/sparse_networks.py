"""
# Sparse networks

Most weights of a trained network can be zero. This guide trains scikit-learn's digits, makes the network sparse in
four ways, up to 99 % zeros, measures what is left of the accuracy, and exports what is left of the network.

**Use this when** the network has to be small in memory or in a file, and what runs it can make use of zeros.

**Do not when** you want dense hardware to be faster: single zeros do not speed up a dense matrix product. Then a smaller
network, or [fewer bits](quantization_aware.md), is the way.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 20
SEEDS = 3
SPARSITIES = (0.9, 0.95, 0.98, 0.99)

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
train, valid, test = [(x[part], y[part]) for part in np.split(np.arange(1797), [900, 1200])]
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def fit(model, optimizer, epochs, callbacks=()):
    model.compile(optimizer, crossentropy, metrics=["accuracy"])
    options = {"batch_size": 50, "verbose": 0, "callbacks": list(callbacks)}
    if callbacks:
        options["validation_data"] = valid
    return model.fit(*train, epochs=epochs, **options).history


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def accuracy(net):
    return np.mean(net.predict(test[0], batch_size=1000, verbose=0).argmax(axis=1) == test[1])


"""
## Cut and train on

The simplest way: train, set the smallest weights to zero, train the others on. `Masked` is the optimizer that keeps zeros
zero: around any Keras optimizer it holds a mask per weight, applies it in every step, and saves it with the model. The
masks may change at any time without compiling anew.
"""


def smallest(net, sparsity):
    """Masks without the smallest kernel weights of the whole network, a mask per variable."""
    kernels = [w for w in net.get_weights() if w.ndim == 2]
    threshold = np.quantile(np.abs(np.concatenate(kernels, axis=None)), sparsity)
    return [np.abs(w) > threshold if w.ndim == 2 else None for w in net.get_weights()]


results = {}
for seed in range(SEEDS):
    net = network(seed)
    fit(net, kr.optimizers.Masked(sgd()), EPOCHS)
    results["dense", 0.0, seed] = accuracy(net)
    dense = net.get_weights()
    for sparsity in SPARSITIES:
        net.set_weights(dense)
        net.optimizer.set_masks(smallest(net, sparsity))
        results["cut", sparsity, seed] = accuracy(net)
        net.fit(*train, batch_size=50, epochs=EPOCHS, verbose=0)
        results["cut and trained on", sparsity, seed] = accuracy(net)

"""
## Let training decide

`ART` adds the HyperSparse loss, whose gradient presses the smallest weights of the whole network towards zero and leaves
large ones alone. It presses harder every epoch, until a pruned copy of the network is as good as the network itself;
`fit` ends there, with that copy. Then the rest is trained on as before. Its defaults are those of a ResNet that is trained
for hundreds of epochs; for a small network the pressure must grow faster.
"""

for seed in range(SEEDS):
    for sparsity in SPARSITIES:
        net = network(seed)
        art = kr.models.ART(net, sparsity, factor=1e-4, growth=1.3, warmup_epochs=EPOCHS // 3)
        fit(art, sgd(), epochs=2 * EPOCHS + 3)
        masks = art.masks()
        net.compile(kr.optimizers.Masked(sgd()), crossentropy)
        net.optimizer.build(net.trainable_variables)
        net.optimizer.set_masks(masks)
        net.fit(*train, batch_size=50, epochs=EPOCHS, verbose=0)
        results["ART", sparsity, seed] = accuracy(net)
        if sparsity == 0.98:
            chosen = net  # To be exported below.

"""
## Let the loss decide how many

The other two do not ask for a sparsity but for a tolerance. `LOBSTER` shrinks every weight the more the less the loss
depends on it, and whenever training stands still, `ThresholdPruning` removes as many weights as the validation loss allows
to rise by. `IrrelevantWeightDecay` penalizes by a similar rule, and `IterativePruning` removes a tenth of what is left after
every epoch whose validation accuracy is above a bound. Both find the sparsity by themselves. The last ten epochs go without
pruning, so that the network recovers from the last one.
"""

for seed in range(SEEDS):
    for name, optimizer, pruning in [
        (
            "LOBSTER",
            kr.optimizers.LOBSTER(sgd(), factor=1e-3),
            kr.callbacks.ThresholdPruning(valid, tolerance=0.1, patience=3, where="kernel"),
        ),
        (
            "irrelevant weights",
            kr.optimizers.IrrelevantWeightDecay(kr.optimizers.Masked(sgd()), factor=1e-3),
            kr.callbacks.IterativePruning(0.97, where="kernel"),
        ),
    ]:
        net = network(seed)
        history = fit(net, optimizer, 4 * EPOCHS - EPOCHS // 2, [pruning])
        net.fit(*train, batch_size=50, epochs=EPOCHS // 2, verbose=0)
        results[name, history["sparsity"][-1], seed] = accuracy(net)

"""
## Measure

The mean over the seeds, and for the two that choose, what each seed chose.
"""

mean = {}
for (name, sparsity, _), value in results.items():
    mean.setdefault((name, sparsity), []).append(value)
print(f"{'zeros':20s}" + "".join(f"{sparsity:>9.0%}" for sparsity in SPARSITIES))
for name in ("cut", "cut and trained on", "ART"):
    row = [np.mean(mean[name, sparsity]) for sparsity in SPARSITIES]
    print(f"{name:20s}" + "".join(f"{value:9.3f}" for value in row))
print(f"dense {np.mean(mean['dense', 0.0]):23.3f}")
for (name, sparsity), values in mean.items():
    if name in ("LOBSTER", "irrelevant weights"):
        print(f"{name:20s} {sparsity:8.1%} zeros: {np.mean(values):.3f}")
dense_accuracy = np.mean(mean["dense", 0.0])
cut, trained_on, art = (
    {sparsity: np.mean(mean[name, sparsity]) for sparsity in SPARSITIES}
    for name in ("cut", "cut and trained on", "ART")
)

"""
The same as a picture:
"""

figure, axis = plt.subplots(figsize=(8, 3.6))
axis.set_title("accuracy over the weights that are left", fontsize=10)
for name, color in [("cut", "C7"), ("cut and trained on", "C0"), ("ART", "C1")]:
    left = [100 * (1 - sparsity) for sparsity in SPARSITIES]
    axis.plot(left, [np.mean(mean[name, s]) for s in SPARSITIES], "o-", color=color, label=name)
for name, color in [("LOBSTER", "C2"), ("irrelevant weights", "C3")]:
    points = [(100 * (1 - s), np.mean(v)) for (n, s), v in mean.items() if n == name]
    axis.plot(*zip(*points), "s", color=color, label=name)
axis.axhline(np.mean(mean["dense", 0.0]), color="black", lw=0.8, ls=":", label="dense")
axis.set_xscale("log")
axis.invert_xaxis()
axis.set_xticks([20, 10, 5, 2, 1], ["20", "10", "5", "2", "1"])
axis.minorticks_off()
axis.set_xlabel("weights left, in %")
axis.set_ylabel("test accuracy")
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
Of 597 test samples the dense network is right for {dense_accuracy:.1%}. Cut without training on, {cut[0.9]:.1%} are left at
90 % zeros and {cut[0.99]:.1%} at 99 %. Trained on, the cut network has {trained_on[0.9]:.1%} at 90 % zeros and
{trained_on[0.98]:.1%} at 98 %, but at 99 % only {trained_on[0.99]:.1%}. `ART`, which chooses its weights while it trains, has
{art[0.98]:.1%} at 98 % and still {art[0.99]:.1%} at 99 % zeros. With one setting each, `LOBSTER` and the penalty on irrelevant
weights end near the accuracy of the dense network, the latter with far more zeros. In so small a
network gradients are far below `alpha=1`, so that this penalty is nearly plain L2.

The comparison is not one of equal cost: the cut networks train for twice as many epochs as the dense one, `ART` for up to
three times, the last two for up to four times. And differences below one percentage point are within the noise of so few
test samples.

## Export

Keras stores zeros like other numbers, so a sparse model is not a small file until its kernels are stored sparsely. The
network then runs wherever there is a sparse matrix product; here it is SciPy's, with the same outputs.
"""

weights = chosen.get_weights()
kernels, biases = [sparse.csr_array(w.T) for w in weights[::2]], weights[1::2]
stored = sum(k.data.nbytes + k.indices.nbytes + k.indptr.nbytes for k in kernels)
hidden = test[0].T
for kernel, bias in zip(kernels, biases):
    outputs = kernel @ hidden + bias[:, None]
    hidden = np.maximum(outputs, 0)
same = np.abs(outputs.T - chosen.predict(test[0], batch_size=1000, verbose=0)).max() < 1e-3
print(f"{sum(k.size for k in weights[::2])} weights, {sum(k.nnz for k in kernels)} left")
print(f"{sum(k.nbytes for k in weights[::2])} bytes dense, {stored} sparse; same outputs: {same}")
