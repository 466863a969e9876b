"""
# Learning one task after another

A network that is trained on one task after another meets two troubles: it may lose the ability to learn new tasks, and
it forgets the old ones. This guide shows the first on random labels and the second on permuted pixels of
scikit-learn's digits, and what penalties on the weights do about them.

**Use this when** data or labels change over time and the network is to go on learning, or to keep what it knew.

**Do not when** the old data are at hand and small enough to train on everything again: that forgets nothing. For new
classes in one layer of outputs the penalty hardly helps, as the last part shows.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 30
TASKS = 12

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(hidden_layers, units):
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(units, activation="relu") for _ in range(hidden_layers)]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def accuracy(net, x, y):
    return np.mean(net.predict_on_batch(x).argmax(axis=-1) == y)


"""
## Loss of plasticity

Every task gives the same 200 images new random labels, so each is as hard as the one before, and there is nothing to
carry over. A new network learns most of them by heart in 30 epochs. Can one that learned others before?

Five ways, all set on the built network with `kr.regularizers.attach`:

- **nothing**;
- **L2**, towards zero;
- `Spectral`: the largest singular value of every kernel is drawn to 1, the length of every bias to 0, all else is free;
- `L2ToReference`: every weight is drawn to its own initial value;
- `Wasserstein`: the weights of a layer are drawn to the *distribution* of the initial ones, in any order.

Each factor is one of two or three that were tried on these tasks. For L2 none of them did much better.
"""

everything = ["kernel", "bias"]
regularizers = {
    "nothing": [],
    "L2": [(keras.regularizers.L2(1e-4), everything)],
    "Spectral": [
        (kr.regularizers.Spectral(3e-3), ["kernel"]),
        (kr.regularizers.Spectral(3e-3, target=0.0), ["bias"]),
    ],
    "L2ToReference": [(lambda v: kr.regularizers.L2ToReference(v.value, factor=3e-3), everything)],
    "Wasserstein": [(lambda v: kr.regularizers.Wasserstein(v.value, factor=1e-2), everything)],
}

learned, largest, rank = {}, {}, {}
print(f"{'':14s} 1st task  last 4 tasks  largest singular value  effective rank")
for name, parts in regularizers.items():
    net = network(hidden_layers=3, units=64)
    for regularizer, where in parts:
        for kind in where:
            kr.regularizers.attach(net, regularizer, where=kind)
    net.compile(keras.optimizers.Adam(0.01), crossentropy)
    learned[name], largest[name], rank[name] = [], [], []
    labels = np.random.default_rng(1)
    for _ in range(TASKS):
        task = labels.integers(0, 10, size=200)
        net.fit(x[:200], task, batch_size=100, epochs=EPOCHS, verbose=0)
        kernel = net.layers[1].kernel
        learned[name].append(accuracy(net, x[:200], task))
        largest[name].append(kr.analysis.spectral_norms(net)[kernel.path])
        rank[name].append(kr.analysis.effective_rank(kernel))
    print(
        f"{name:14s} {learned[name][0]:8.2f} {np.mean(learned[name][-4:]):13.2f} "
        f"{largest[name][-1]:23.1f} {rank[name][-1]:15.0f}"
    )

"""
Task by task:
"""

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, curves, title in [
    (axes[0], learned, "training accuracy at the end of a task"),
    (axes[1], largest, "largest singular value, second layer"),
]:
    for name, values in curves.items():
        axis.plot(np.arange(1, TASKS + 1), values, label=name)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("task")
    axis.set_xticks(np.arange(1, TASKS + 1, 2))
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylim(0, 1)
axes[0].legend(frameon=False, fontsize=9, loc="lower left")
figure.tight_layout()
plt.show()

"""
Chance is 0.1. The network without a penalty learns less of every task, as its largest singular values grow. With `Spectral`
the last tasks are learned nearly like the first. L2 helps little: it shrinks the directions that are not used along with the others, and
the rank falls. `L2ToReference` does nearly as well. `Wasserstein` holds the singular values about as well,
but helps much less, so they are not the whole story.

The learning rate of 0.01 is high for Adam, which makes the loss of plasticity visible within a few tasks; smaller rates
show it later. `L2ToReference` and `Wasserstein` write the initial weights into the config of the model; for a large one
`kr.models.WeightPenalty(…, anchors="plain")` keeps them among its weights.

## Forgetting

The second trouble needs another cure: here the old weights are worth keeping, not the initial ones. The second task is the
digits with the pixels in another order. Elastic weight consolidation holds each weight near its value after the first task,
the harder the more the predictions depend on it. `kr.analysis.fisher_diagonal` measures that, and
`kr.models.WeightPenalty` remembers both; with `anchors="plain"` it holds all weights alike.
"""


def two_tasks(first, second, factors):
    """Trains on `first`, then on `second` in several ways, each from the same weights."""
    net = network(hidden_layers=2, units=128)
    net.compile(keras.optimizers.Adam(1e-3), crossentropy)
    net.fit(*first, batch_size=50, epochs=EPOCHS // 3 + 1, verbose=0)
    importance = kr.analysis.fisher_diagonal(net, first[0][:300], seed=0)
    weights = net.get_weights()
    for name, anchors, factor in factors:
        net.set_weights(weights)
        held = kr.models.WeightPenalty(
            net, keras.regularizers.L2(0.5), factor, where=None, anchors=anchors
        )
        if anchors == "weighted":
            held.set_anchors(importance=importance)
        held.compile(keras.optimizers.Adam(1e-3), crossentropy)
        held.fit(*second, batch_size=50, epochs=EPOCHS // 3 + 1, verbose=0)
        yield name, net


train, test = (x[:1000], y[:1000]), (x[1000:], y[1000:])
pixels = np.random.default_rng(1).permutation(64)
methods = [
    ("fine-tuning", "plain", 0.0),
    ("anchors", "plain", 0.1),
    ("anchors, strong", "plain", 1.0),
    ("EWC", "weighted", 300.0),
]
print(f"{'':16s} old pixels  new pixels")
for name, net in two_tasks(train, (train[0][:, pixels], train[1]), methods):
    old, new = accuracy(net, *test), accuracy(net, test[0][:, pixels], test[1])
    print(f"{name:16s} {old:10.3f} {new:11.3f}")

"""
Without anchors a large part of the old task is gone after eleven epochs of the new one. Elastic weight consolidation keeps
more of it than anchors that hold all weights alike, and learns as much. It took 300 samples to measure the importance. Its
factor is large because the squared gradients are small: try powers of ten.

## Where it does not help

Now the second task is new classes: first the digits 0 to 4, then 5 to 9, in one layer of ten outputs.
"""


def digits(data, chosen):
    keep = np.isin(data[1], chosen)
    return data[0][keep], data[1][keep]


low, high = np.arange(5), np.arange(5, 10)
print(f"{'':16s} old digits  among the old classes  new digits")
for name, net in two_tasks(
    digits(train, low), digits(train, high), [methods[0], ("EWC", "weighted", 300.0)]
):
    old, new = digits(test, low), digits(test, high)
    among_old = np.mean(net.predict_on_batch(old[0])[:, :5].argmax(axis=-1) == old[1])
    print(f"{name:16s} {accuracy(net, *old):10.3f} {among_old:22.3f} {accuracy(net, *new):11.3f}")

"""
No old digit is recognized after fine-tuning, and few are with elastic weight consolidation. But asked which of the five
old digits it sees, even the fine-tuned network is mostly right. What was forgotten is not how the digits differ; the second task,
in which only new digits occur, teaches that the answer is never an old one. The penalty hardly corrects that: for new
classes keep some old samples, or an output layer per task.
"""
