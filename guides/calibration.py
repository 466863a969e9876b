"""
# Confidence that can be believed

A classifier that says 90 % should be right nine times out of ten. Networks that fit their training data perfectly
say 90 % far too easily: cross-entropy goes on rewarding larger logits when nothing is left to be learnt. This
guide makes such a network, measures how much too sure it is, trains it with the losses that hold the confidence
down, picks the one number most of them ask for, and shows when to leave them alone.

**Use this when** something acts on the confidence – a threshold, a person, another model – and the network is trained until
it fits its training data.

**Do not when** the network is calibrated already, or stopping in time is enough: measure first, since lowering the
confidence further makes it worse.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 60
SEEDS = 3

"""
## A network that is too sure

scikit-learn's digits under so much noise that many cannot be told apart: 400 images to train on, 400 to choose
by, 997 to test on. Noise and number of epochs were chosen so that plain training is far too sure.
"""

x, y = load_digits(return_X_y=True)
generator = np.random.default_rng(0)
order = generator.permutation(len(x))
x, y = (x[order] / 16).astype("float32"), y[order]
noisy = x + generator.normal(0, 0.5, x.shape).astype("float32")
train, validation, test = slice(0, 400), slice(400, 800), slice(800, None)

"""
Everything below is the mean over three networks that start from different weights. `train_networks` gives a
function from images to their logits, `(networks, images, classes)`.
"""


def train_networks(loss, x, y, **arguments):
    models = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        hidden = keras.layers.Dense(64, activation="relu")
        model = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(10)])
        model.compile(keras.optimizers.Adam(0.005), loss)
        model.fit(x, y, batch_size=50, epochs=EPOCHS, verbose=0, **arguments)
        models.append(model)
    return lambda x: np.stack([ops.convert_to_numpy(model(x)) for model in models])


"""
`ExpectedCalibrationError` sorts samples into bins by confidence, and averages over the bins how far the
confidence is from the accuracy. It works in `compile(metrics=[…])` as well. It says nothing about how useful the
predictions are: who always gives the class frequencies is perfectly calibrated. So look at the cross-entropy on
the same data too, which a prediction must be both sharp and honest to keep low.
"""


def calibration_error(logits, y):
    metric = kr.metrics.ExpectedCalibrationError(num_bins=15, from_logits=True)
    metric.update_state(y, logits)
    return float(metric.result())


def measure(logits, y):
    log_p = ops.convert_to_numpy(ops.log_softmax(logits, axis=-1))
    return {
        "accuracy": np.mean(log_p.argmax(-1) == y),
        "confidence": np.mean(np.exp(log_p.max(-1))),
        "calibration error": np.mean([calibration_error(z, y) for z in logits]),
        "cross-entropy": -np.mean(log_p[:, np.arange(len(y)), y]),
    }


def head():
    print(f"{'':23s} accuracy  confidence  calibration error  cross-entropy")


def report(name, logits, y):
    values = measure(logits, y)
    accuracy, confidence, error, entropy = values.values()
    print(f"{name:23s} {accuracy:8.3f} {confidence:11.3f} {error:18.3f} {entropy:14.3f}")
    return values


crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
plain = train_networks(crossentropy, noisy[train], y[train])
head()
known = report("plain, training images", plain(noisy[train]), y[train])
new = report("plain, test images", plain(noisy[test]), y[test])

"""
On the images it was trained on, the network is always right and says so: {known["confidence"]:.0%}. On new ones it is right for
{new["accuracy"]:.0%} and says {new["confidence"]:.0%}, a calibration error of {new["calibration error"]:.2f}. Its cross-entropy
of {new["cross-entropy"]:.1f} is not far from the {np.log(10):.1f} of guessing blindly among ten classes: what it gains where it
is right, it loses where it is wrong and sure.

## Losses that hold it down

- `MaxSup` is label smoothing with the largest logit in the place of the label's: it pulls the top down towards
  the mean.
- `MbLS` leaves distances between logits alone as long as they are within a margin, and pulls at what is beyond.
- `ACLS` pulls the harder the further a distance is beyond the margin, and holds the top logit itself below it.
- `FLSD` is a focal loss: samples that are right and sure count less, so nobody pushes them further.
- `SpectralDecoupling` puts a price on squared logits.
- `MDCA` compares the mean confidence in each class with how often it occurs, batch by batch.
"""

losses = {
    "MaxSup": kr.losses.MaxSup(0.1),
    "MbLS": kr.losses.MbLS(margin=3.0),
    "ACLS": kr.losses.ACLS(margin=3.0),
    "FLSD": kr.losses.FLSD(),
    "SpectralDecoupling": kr.losses.SpectralDecoupling(0.01),
    "MDCA": kr.losses.MDCA(factor=5.0),
}


def reliability(axis, name, logits, y):
    """Accuracy over confidence, in ten bins of which those with few samples are left out."""
    p = ops.convert_to_numpy(ops.softmax(logits, axis=-1))
    confidence, hits = p.max(-1).ravel(), (p.argmax(-1) == y).ravel()
    bins = np.minimum((confidence * 10).astype(int), 9)
    for b in np.unique(bins):
        share, accuracy = np.mean(bins == b), np.mean(hits[bins == b])
        if share < 0.01:
            continue
        axis.bar(b / 10 + 0.05, accuracy, 0.09, color="C0", alpha=0.25 + 0.75 * min(1, 3 * share))
        axis.plot([b / 10 + 0.05] * 2, [accuracy, np.mean(confidence[bins == b])], color="C3")
    axis.plot([0, 1], [0, 1], ":", color="gray", linewidth=1)
    axis.set_title(f"{name}: {measure(logits, y)['calibration error']:.3f}", fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)


predicted = {"cross-entropy": plain(noisy[test])}
for name, loss in losses.items():
    predicted[name] = train_networks(loss, noisy[train], y[train])(noisy[test])
head()
found = {name: report(name, logits, y[test]) for name, logits in predicted.items()}

"""
`MaxSup` and `MbLS` take most of the calibration error away, `ACLS` and `FLSD` two thirds, `SpectralDecoupling` half.
`MDCA` changes little: it looks at the training images, and there confidence and accuracy agree already.

It is not free. With labels as hard to see as these, `MaxSup`, `MbLS` and `ACLS` cost some points of accuracy,
`SpectralDecoupling` and `FLSD` fewer. `FLSD` has the lowest cross-entropy of all. Judged by calibration alone it
would have come fourth.

## Stopping in time

Much of the confidence comes from training on when nothing is left to be learnt. Stopping is cheaper than any
loss. Keras' own callback keeps the weights of the epoch with the least validation loss:
"""

stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
data = {"validation_data": (noisy[validation], y[validation]), "callbacks": [stop]}
stopped = train_networks(crossentropy, noisy[train], y[train], **data)
focal = train_networks(losses["FLSD"], noisy[train], y[train], **data)
head()
report("plain, stopped in time", stopped(noisy[test]), y[test])
twice = report("FLSD, stopped in time", focal(noisy[test]), y[test])

"""
The plain loss, stopped in time, is nearly as well calibrated as the best of the above, and beats them all in accuracy and
cross-entropy. Compare with that before you reach for anything else. The losses are for networks that have to be trained
to the end, because accuracy still rises while the cross-entropy on new images does too, as Guo et al.
([arXiv:1706.04599](https://arxiv.org/abs/1706.04599)) saw on CIFAR-100. And one remedy is enough: `FLSD` stopped in time
says {twice["confidence"]:.0%} where it is right for {twice["accuracy"]:.0%}, and its calibration error rises from
{found["FLSD"]["calibration error"]:.2f} to {twice["calibration error"]:.2f}.

## Choosing the margin

Margins are in units of logits, and those depend on the network. So look at what the plain network does: how far
its top logit leads the others.
"""

logits = plain(noisy[train])
lead = logits.max(-1, keepdims=True) - logits
lead = lead[lead > 0]
print(
    f"lead of the top logit: median {np.median(lead):.1f}, 95 % below {np.percentile(lead, 95):.1f}"
)

"""
Then try margins below that, and measure on the validation images.
"""

margins = [1.0, 3.0, 6.0, 10.0]
head()
reference = report("plain", plain(noisy[validation]), y[validation])
curves = {"MbLS": [], "ACLS": []}
for name, curve in curves.items():
    for margin in margins:
        loss = getattr(kr.losses, name)(margin=margin)
        logits = train_networks(loss, noisy[train], y[train])(noisy[validation])
        curve.append(report(f"{name}, margin {margin:g}", logits, y[validation]))

"""
In a picture, the plain network dotted:
"""

figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for axis, key in zip(axes, ("calibration error", "cross-entropy", "accuracy")):
    for name, curve in curves.items():
        axis.plot(margins, [values[key] for values in curve], "o-", label=name)
    axis.axhline(reference[key], color="gray", linestyle=":", label="plain")
    axis.set_title(key, fontsize=10)
    axis.set_xlabel("margin")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False, fontsize=9)
figure.tight_layout()
plt.show()

"""
The leads of the plain network are {np.median(lead):.0f} in the middle and {np.percentile(lead, 95):.0f} at the upper end. A
margin at that scale, such as 10, the default for large networks on photos, leaves many of them alone and most of the error
where it was. Below, the calibration error on validation images falls all the way to a margin of 1, and accuracy falls as
well. The cross-entropy settles it: it falls until 3 and hardly any further. So start at a quarter of the median lead, and
take the largest margin at which the validation cross-entropy has stopped falling. That is where the 3 above comes from.

## When to leave it

The same network on 200 images without noise:
"""

few, easy = slice(0, 200), {}
head()
for name in ("cross-entropy", "MaxSup", "ACLS", "FLSD", "SpectralDecoupling", "MDCA"):
    loss = losses.get(name, crossentropy)
    easy[name] = report(name, train_networks(loss, x[few], y[few])(x[test]), y[test])

"""
Cross-entropy is calibrated as it is: it says {easy["cross-entropy"]["confidence"]:.0%} and is right for
{easy["cross-entropy"]["accuracy"]:.0%}. Every loss that lowers confidence now lowers it from there, and the error rises, to
{easy["MaxSup"]["calibration error"]:.2f} for `MaxSup` and {easy["FLSD"]["calibration error"]:.2f} for `FLSD`: these networks are
right far more often than they say. Accuracy hardly moves, so nothing but the calibration error, or the cross-entropy,
would have told you.

## Which one

- Measure first, on data the network has not seen: `ExpectedCalibrationError`, and cross-entropy beside it.
- Stop in time, if that costs no accuracy.
- Else `FLSD`, which has nothing to tune and costs the least, or `MbLS` and `ACLS` with a margin chosen on
  validation data.
- Leave it if the network is calibrated already.

Once more the noisy digits, trained to the end. The bars are accuracies, the darker the more samples they stand for; the red
lines are what is missing to the confidence; the number is the calibration error.
"""

figure, axes = plt.subplots(2, 3, figsize=(8, 5.4), sharex=True, sharey=True)
shown = ["cross-entropy", "MaxSup", "MbLS", "ACLS", "FLSD", "SpectralDecoupling"]
for axis, name in zip(axes.ravel(), shown):
    reliability(axis, name, predicted[name], y[test])
for axis in axes[1]:
    axis.set_xlabel("confidence")
for axis in axes[:, 0]:
    axis.set_ylabel("accuracy")
figure.tight_layout()
plt.show()
