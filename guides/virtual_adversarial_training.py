"""
# Learning from unlabelled data

Labels cost more than data. The models in this guide take both in the same arrays: an integer label of −1 marks a
row without label, as in scikit-learn (with one-hot labels, a row of −1). The supervised loss is then the mean over
labelled rows, metrics see labelled rows only, and what a method adds uses every row.

`VAT` asks a classifier not to change its mind in the direction in which it would change it most. No label enters,
so unlabelled rows push the decision boundary away from themselves. The guide runs unchanged on JAX, TensorFlow and
PyTorch (`KERAS_BACKEND`).

**Use this when** few of the data have a label, and classes lie apart in the inputs or in an embedding.

**Do not when** classes overlap so that no gap is there to find, or so few labels are known that the first predictions are
mostly wrong: unlabelled data then confirm the errors.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_digits, make_moons

import keras_regularize as kr

EPOCHS = 20

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(model, x, y, epochs, rate, batch_size):
    model.compile(keras.optimizers.Adam(rate), crossentropy)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)


def accuracy(model, x, y):
    return np.mean(np.argmax(model.predict(x, batch_size=1000, verbose=0), axis=-1) == y)


"""
## Where the boundary goes

Two half moons of 500 points, four of each with a label. The supervised network separates the eight points it knows
and cuts through both moons. With `VAT` the other 992 points are in the same array; the boundary moves into the gap
between the moons.
"""

x, truth = make_moons(1000, noise=0.1, random_state=0)
x = x.astype("float32")
known = np.concatenate([np.flatnonzero(truth == c)[:4] for c in (0, 1)])
y = np.full(1000, -1)
y[known] = truth[known]


def small_network():
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(32, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((2,)), *hidden, keras.layers.Dense(2)])


supervised = small_network()
train(supervised, x[known], y[known], 10 * EPOCHS, 0.01, 8)
network = small_network()
model = kr.models.VAT(network, epsilon=0.3, factor=3.0)
train(model, x, y, 10 * EPOCHS, 0.01, 1000)

moons = {"supervised": accuracy(supervised, x, truth), "VAT": accuracy(network, x, truth)}
for name, share in moons.items():
    print(f"{name:10s} accuracy {share:.3f}")

"""
The points, the eight known ones large, and what either network makes of them:
"""

grid = np.stack(np.meshgrid(np.linspace(-1.6, 2.6, 150), np.linspace(-1.1, 1.6, 100)), -1)
figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.9), sharey=True)
for axis, (name, net) in zip(axes, {"supervised": supervised, "VAT": network}.items()):
    logits = net.predict(grid.reshape(-1, 2).astype("float32"), batch_size=15000, verbose=0)
    probability = ops.convert_to_numpy(ops.softmax(logits))[:, 1].reshape(grid.shape[:2])
    axis.contourf(grid[..., 0], grid[..., 1], probability, 20, cmap="RdBu", alpha=0.6)
    axis.contour(grid[..., 0], grid[..., 1], probability, [0.5], colors="black", linewidths=1)
    axis.scatter(*x.T, s=2, color="0.35")
    axis.scatter(*x[known].T, s=60, c=truth[known], cmap="RdBu", edgecolors="black", zorder=3)
    axis.set_title(f"{name}: {moons[name]:.1%} right", fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
figure.tight_layout()
plt.show()

"""
## Fewer labels on digits

The same on scikit-learn's digits, 1000 images of 8×8 pixels of which 20 to 200 have a label. A few labels spread
over 1000 rows would leave most batches with one or two; here the labelled rows are repeated, so that a batch has as
many of them as of the others. Both networks see them equally often. `epsilon`, the length of the perturbation in units of
the inputs, is the one argument to tune: about the distance over which a prediction should not change, 1 for these 64 pixels
between 0 and 1.
"""

x_digits, y_digits = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y_digits))
x_digits, y_digits = (x_digits[order] / 16).astype("float32"), y_digits[order]
x_train, y_train, x_test, y_test = (
    x_digits[:1000],
    y_digits[:1000],
    x_digits[1000:],
    y_digits[1000:],
)
# The first rows, which have labels, shall hold all digits alike.
order = np.argsort([np.sum(y_train[:i] == digit) for i, digit in enumerate(y_train)])
x_train, y_train = x_train[order], y_train[order]


def digits_network():
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(128, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def few_labels(x, y, count):
    """The first `count` rows with their labels, repeated, and all rows without."""
    rows = np.arange(len(x)) % count
    return x[rows], y[rows], np.concatenate([x, x[rows]]), np.append(np.full(len(x), -1), y[rows])


counts, shares = [20, 50, 100, 200], {"supervised": [], "VAT": []}
print("labels  supervised    VAT")
for count in counts:
    x_few, y_few, x_both, y_both = few_labels(x_train, y_train, count)
    plain, wrapped = digits_network(), kr.models.VAT(digits_network(), epsilon=1.0)
    train(plain, x_few, y_few, EPOCHS, 3e-3, 100)
    train(wrapped, x_both, y_both, EPOCHS, 3e-3, 200)
    if count == 50:
        teacher = wrapped  # For the next part.
    for name, net in {"supervised": plain, "VAT": wrapped}.items():
        shares[name].append(accuracy(net, x_test, y_test))
    print(f"{count:6d} {shares['supervised'][-1]:11.3f} {shares['VAT'][-1]:6.3f}")

"""
The same as a picture:
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for name, values in shares.items():
    axis.plot(counts, values, "o-", label=name)
axis.set_xscale("log")
axis.set_xticks(counts, counts)
axis.minorticks_off()
axis.set_title("test accuracy on digits", fontsize=10)
axis.set_xlabel("labels")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
## Robustness with few labels

Adversarial training needs more data than plain training, and with few labels it has little. `SRSTAWR` lets a teacher
stand in: the `VAT` model with 50 labels from above, which is not robust itself, says what the unlabelled rows
are, and the student learns to keep that under attack. `TRADES` with the same 50 labels has only those.
"""

attack = kr.attacks.PGD(0.1, 0.03, 5, loss="kl")
judge = kr.attacks.PGD(0.1, 0.025, 10)
x_few, y_few, x_both, y_both = few_labels(x_train, y_train, 50)
students = {
    "TRADES, 50 labels": (kr.models.TRADES(digits_network(), attack), x_few, y_few, 100),
    "SRSTAWR, 50 labels and a teacher": (
        kr.models.SRSTAWR(digits_network(), teacher, attack),
        x_both,
        y_both,
        200,
    ),
}
for name, (student, x_student, y_student, size) in students.items():
    train(student, x_student, y_student, EPOCHS, 3e-3, size)
    robust = kr.analysis.robust_accuracy(student, x_test, y_test, judge)
    clean = accuracy(student, x_test, y_test)
    print(f"{name:33s} clean {clean:.3f}, under attack {float(robust):.3f}")

"""
## Text

Token ids cannot be perturbed; what stands for them in the model can. `layer=` names the layer whose output is
perturbed, here an embedding. Padding is masked, and takes no part. The sentences are made up: each of two topics has
its own frequent words, and 20 sentences of 1000 have a label.
"""

generator = np.random.default_rng(0)
topics = generator.dirichlet(np.full(300, 0.1), size=2)
labels = generator.integers(0, 2, 2000)
lengths = generator.integers(6, 16, 2000)
mixed = 0.6 * topics + 0.4 * topics.mean(axis=0)
sentences = np.zeros((2000, 15), "int32")  # 0 is padding.
for i, (label, length) in enumerate(zip(labels, lengths)):
    sentences[i, :length] = 1 + generator.choice(300, length, p=mixed[label])


def text_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((15,), dtype="int32"),
            keras.layers.Embedding(301, 16, mask_zero=True, name="words"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(2),
        ]
    )


x_few, y_few, x_both, y_both = few_labels(sentences[:1000], labels[:1000], 20)
plain = text_network()
train(plain, x_few, y_few, EPOCHS, 5e-3, 100)
wrapped = kr.models.VAT(text_network(), epsilon=1.0, finite_difference=0.1, layer="words")
train(wrapped, x_both, y_both, EPOCHS, 5e-3, 200)
for name, net in {"supervised": plain, "VAT": wrapped}.items():
    print(f"{name:10s} accuracy {accuracy(net, sentences[1000:], labels[1000:]):.3f}")

"""
## Unlabelled data from elsewhere

`RobustSelfSupervised` labels the unlabelled rows with its own current predictions, and trains on the worst
neighbours of all rows, at a price `gamma` for the squared distance. The price also covers unlabelled rows that come
from a slightly different distribution. The paper's example: two Gaussian classes in 200 dimensions, whose means are
so close that the best classifier is right in 84 % of cases, and 10 or 40 labels, from which a linear one learns little. Its
loss, the ramp, is linear where it is not constant, so one step of length $1/(2\\gamma)$ reaches the worst neighbour. `factor=10`
gives the unlabelled rows the say, beside so few labelled ones. The other domain has its means turned by 0.3 rad.
"""


@keras.saving.register_keras_serializable("guide")
class Ramp(keras.losses.Loss):
    """`min(1, max(0, 1 - slope · y f(x)))` for labels 0 and 1."""

    from_logits = True

    def __init__(self, slope=0.5, **kwargs):
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, y_true, y_pred):
        sign = 2.0 * ops.reshape(y_true, (-1, 1)) - 1.0
        return ops.clip(1.0 - self.slope * sign * y_pred, 0.0, 1.0)[:, 0]


def gaussians(count, mean, generator):
    labels = generator.integers(0, 2, count)
    return (2 * labels[:, None] - 1) * mean + generator.normal(size=(count, 200)), labels


generator = np.random.default_rng(0)
mean = generator.normal(size=200)
mean /= np.linalg.norm(mean)
shift = generator.normal(size=200)
shift -= (shift @ mean) * mean
turned = np.cos(0.3) * mean + np.sin(0.3) * shift / np.linalg.norm(shift)
x_10, y_10 = gaussians(10, mean, generator)
x_new, y_new = gaussians(10000, mean, generator)


def self_trained(x_few, y_few, count, center):
    """Accuracy on new samples, with `count` unlabelled ones around `center`."""
    start = ((2 * y_few[:, None] - 1) * x_few).mean(axis=0)
    start /= np.linalg.norm(start)
    linear = keras.layers.Dense(1, use_bias=False, kernel_constraint=keras.constraints.UnitNorm())
    classifier = keras.Sequential([keras.Input((200,)), linear])
    linear.set_weights([start[:, None]])
    model = kr.models.RobustSelfSupervised(
        classifier, 10.0, gamma=2.0, gamma_unlabeled=2.0, steps=1, step_size=0.25
    )
    model.compile(keras.optimizers.SGD(0.03), Ramp())
    x_more, _ = gaussians(count, center, generator)
    x_all = np.concatenate([x_few, x_more]).astype("float32")
    y_all = np.concatenate([y_few, np.full(count, -1)])
    model.fit(x_all, y_all, batch_size=len(x_all), epochs=5 * EPOCHS, shuffle=False, verbose=0)
    scores = classifier.predict(x_new, batch_size=10000, verbose=0)[:, 0]
    return np.mean((scores > 0) == y_new)


domains = {
    "none": (0, mean),
    "100": (100, mean),
    "1000": (1000, mean),
    "10000": (10000, mean),
    "10000 of another domain": (10000, turned),
}
print(f"{'unlabelled rows':24s} 10 labels  40 labels")
x_40, y_40 = gaussians(40, mean, generator)
for name, (count, center) in domains.items():
    ten, forty = (
        self_trained(x_few, y_few, count, center) for x_few, y_few in ((x_10, y_10), (x_40, y_40))
    )
    print(f"{name:24s} {ten:9.3f} {forty:10.3f}")

"""
The authors report, for 10 labels, 0.59 without unlabelled rows, and 0.82 and 0.81 with 10 000 of the same and of another
domain; for 40, 0.65, 0.82 and 0.80. A hundred rows do not help: predictions that are wrong in a third of cases or more
teach little.

`factor`, the learning rate and the number of steps were chosen by these accuracies: the table shows what is possible, not
what to expect unseen. The same holds for the text task above and its `epsilon`.

## What to watch

- A batch may have no labelled row, or no unlabelled one; a missing mean counts as 0. Steps are better where each batch
  has both.
- `VAT(entropy_factor=…)` adds `kr.losses.conditional_entropy`. It sharpens predictions that are right on the whole; with
  dozens of labels it sharpens wrong ones too.
- All of these nest: `SAM(VAT(model))` finds the direction once a step.
"""
