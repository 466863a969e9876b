"""
# Learning from labels of which many are wrong

Labels from the web, from crowds or from old records are wrong now and then, and a network with enough weights learns
them all the same: first what most labels agree on, then the wrong ones by heart. This guide flips 40 % of the labels
of scikit-learn's digits and compares plain cross-entropy with a loss, a layer, a memory and pairs of networks.

**Use this when** more than a few percent of the labels are likely wrong and you cannot look at each of them.

**Do not when** the labels are right and hard to learn: what is rare looks like what is wrong, and is forgotten with it.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 60

x, y = load_digits(return_X_y=True)
generator = np.random.default_rng(0)
order = generator.permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:1000], y[:1000], x[1000:], y[1000:]

wrong = generator.random(len(y_train)) < 0.4
y_noisy = np.where(wrong, (y_train + generator.integers(1, 10, len(y_train))) % 10, y_train)


def network(*compressor, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            *compressor,
            keras.layers.Dense(10),
        ]
    )


crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

"""
## Six ways

- **Cross-entropy**, to compare with.
- `SymmetricCrossentropy`, a loss: it adds a bounded term, so that no single label can pull without limit. Nothing else
  about training changes.
- `NestedDropout`, a layer before the last: it keeps the first few features of a random number of them. Little of what
  has to be known by heart fits in there.
- `ELR`, a memory: it averages the predictions for every training sample and holds the network to them, which in
  the early epochs come from the correct labels. The index of a sample rides in `y`.
- `ELRPlus`, two memories: each of two networks is held to what the averaged weights of the other predicted, and both
  learn from mixtures of samples.
- `CoTeaching`, two networks: each learns from the samples of a batch that have small losses under the other one. It
  leaves out 40 %, after a rise over five epochs; an estimate of the noise rate will do.
"""

steps_per_epoch = len(y_train) // 100
forget_rate = keras.optimizers.schedules.PolynomialDecay(
    0.0, 5 * steps_per_epoch, end_learning_rate=0.4
)
symmetric = kr.losses.SymmetricCrossentropy(alpha=0.1, beta=1.0, from_logits=True)
samples = {"num_samples": len(y_train), "num_classes": 10}
pairs = [(network(seed=0), network(seed=1)) for _ in range(2)]
methods = {
    "cross-entropy": (network(), crossentropy),
    "SymmetricCrossentropy": (network(), symmetric),
    "NestedDropout": (network(kr.layers.NestedDropout(stddev=10.0)), crossentropy),
    "ELR": (kr.models.ELR(network(), **samples), crossentropy),
    "ELRPlus": (
        kr.models.ELRPlus(*pairs[0], **samples, ema_warmup_steps=20 * steps_per_epoch),
        crossentropy,
    ),
    "CoTeaching": (kr.models.CoTeaching(*pairs[1], forget_rate), crossentropy),
}


class Memorization(keras.callbacks.Callback):
    """After each epoch: how often the wrong labels are predicted, and the accuracy on clean test data."""

    def __init__(self):
        super().__init__()
        self.memorized, self.test = [], []

    def on_epoch_end(self, epoch, logs=None):
        predicted = [self.model.predict_on_batch(part).argmax(-1) for part in (x_train, x_test)]
        self.memorized.append(np.mean(predicted[0][wrong] == y_noisy[wrong]))
        self.test.append(np.mean(predicted[1] == y_test))


curves = {}
for name, (model, loss) in methods.items():
    model.compile(keras.optimizers.Adam(3e-3), loss)
    labels = kr.utils.with_index(y_noisy) if "ELR" in name else y_noisy
    curves[name] = Memorization()
    model.fit(x_train, labels, batch_size=100, epochs=EPOCHS, verbose=0, callbacks=[curves[name]])
    print(
        f"{name:21s} test accuracy {curves[name].test[-1]:.3f} (best {max(curves[name].test):.3f}), "
        f"wrong labels memorized {curves[name].memorized[-1]:.1%}"
    )

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for name, curve in curves.items():
    axes[0].plot(np.arange(1, EPOCHS + 1), curve.memorized, label=name)
    axes[1].plot(np.arange(1, EPOCHS + 1), curve.test, label=name)
axes[0].set_title("wrong labels that are predicted", fontsize=10)
axes[1].set_title("accuracy on clean test data", fontsize=10)
axes[0].set_ylim(0, 1)
axes[1].set_ylim(0.5, 1)
for axis in axes:
    axis.set_xlabel("epoch")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False, fontsize=8)
figure.tight_layout()
plt.show()

"""
Cross-entropy is good early, {max(curves["cross-entropy"].test):.2f} at its best epoch, and then learns
{curves["cross-entropy"].memorized[-1]:.0%} of the wrong labels by heart and ends at {curves["cross-entropy"].test[-1]:.2f}.
Stopping there would do, if clean data told when. `ELR` can be left to run: it ends where it was best.
`SymmetricCrossentropy` and `CoTeaching` slow memorization down and stay close to their best for longer.
`NestedDropout` memorizes little, but lets few features through, learns slowly and reaches less. `ELRPlus`, made for deep
networks on images, has no advantage over `ELR` here. The settings are those of the papers for ten classes, but for
the average of `ELRPlus`, whose rise is shortened to 20 epochs.

## Finding the wrong labels

What `ELR` remembers of a sample is a second opinion on its label. Where the two differ the label deserves a look.
"""

elr = methods["ELR"][0]
doubtful = elr.memory.numpy().argmax(axis=-1) != y_noisy
print(
    f"{doubtful.sum()} labels are doubtful, of which {np.mean(wrong[doubtful]):.1%} are wrong; "
    f"{np.mean(doubtful[wrong]):.1%} of the wrong ones are found"
)

"""
{wrong[doubtful].mean():.0%} of the labels it doubts are wrong, and it finds {doubtful[wrong].mean():.0%} of the wrong ones.

## Which one

- A loss is the least to change: begin with `SymmetricCrossentropy`, or the generalized cross-entropy that Keras has
  (`CategoricalGeneralizedCrossEntropy`).
- `ELR` costs no more passes either, and needs the index of each sample and a row of memory for it. It nests:
  `SAM(ELR(model))`.
- `CoTeaching` costs two networks and an estimate of the share of wrong labels. `ELRPlus` costs two as well, and
  two forward passes more.
- If no clean data are there to choose by, compare the methods by accuracy on held-out *noisy* data: if wrong labels
  are spread evenly over the classes, its ranking is that of clean accuracy.
"""
