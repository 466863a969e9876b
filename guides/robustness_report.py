"""
# A robustness report

Accuracy on a test set says what a classifier does on images like those it was trained on. What it does with noise, in fog,
under attack, with images of another kind, and whether its confidence can be believed, one call measures. This guide
makes a report, reads it, compares three ways of training by it, and ends with the measure that robust models are ranked
by, AutoAttack.

**Use this when** the classifier will see more than its test set, or you have to say how far it can be trusted.

**Do not when** you know the shift it will meet: measure on data that have it. Corruptions made from clean images
are a stand-in.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 30
STEPS = 50
SHOWN = 200

"""
## A model

scikit-learn's digits, 600 to train on, and a small convolutional network. Pixels lie between 0 and 1; for other ranges
every function below takes `bounds`, for images that were standardized channel by channel as lists of one number per
channel.
"""

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(x))
x, y = (x[order] / 16).astype("float32").reshape(-1, 8, 8, 1), y[order]
x_train, y_train, x_test, y_test = x[:600], y[:600], x[600:], y[600:]


def network(*first):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *first,
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def trained(model):
    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0)
    return model


"""
## What the corruptions look like

`kr.analysis.corrupt(x, name, severity)` gives corrupted images by themselves. Severities go from 1 to 5; here they are
all at 4.
"""

figure, axes = plt.subplots(2, 8, figsize=(9, 3.2))
figure.suptitle("A digit under every corruption, severity 4", fontsize=10)
for axis, name in zip(axes.ravel(), ("", *kr.analysis.CORRUPTIONS)):
    image = kr.analysis.corrupt(x_test[:1], name, 4) if name else x_test[:1]
    axis.imshow(image[0, ..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_title((name or "clean").replace("_", "\n"), fontsize=8)
for axis in axes.ravel():
    axis.axis("off")
figure.tight_layout()
plt.show()

"""
## The report

It takes data in any form that `fit` takes. As data of another kind it gets digits whose pixels are shuffled, and attacks are
chosen for the range of these images, where a tenth is still easy to read. Whatever you do not need is switched off by
`corruptions=()`, `attacks=()`.
"""

shuffled = np.random.default_rng(0).permuted(x_test.reshape(-1, 64), axis=1)
shuffled = shuffled.reshape(x_test.shape)
attacks = {"FGSM, 0.1": kr.attacks.FGSM(0.1), "PGD, 0.1": kr.attacks.PGD(0.1, 0.025, 10, seed=0)}


def report(model):
    return kr.analysis.robustness_report(
        model, x_test, y_test, {"shuffled": shuffled}, attacks=attacks, verbose=0
    )


plain = trained(network())
found = report(plain)
print(found)

"""
Read it from the top. The confidence is worth something if the calibration error is small. A row of corruptions that
falls fast is a weakness: here motion blur and occlusion, fog and, at its last severity, contrast. Under attack the
accuracy is what is left when every pixel may move by a tenth. And an AUROC of 50 is no better than a coin at
telling other images from digits.

The same as a picture: bars are means, lines the five severities, of which the lowest is the worst.
"""

figure, axis = plt.subplots(figsize=(6, 4.6))
found.plot(axis)
axis.set_title("Plain training: accuracy on corrupted and attacked digits", fontsize=10)
figure.tight_layout()
plt.show()

"""
## Comparing models

Noise in training, and training on attacked images, next to plain training.
"""

models = {
    "plain": plain,
    "noise": trained(network(keras.layers.GaussianNoise(0.3))),
    "adversarial": trained(kr.models.AdversarialTraining(network(), kr.attacks.FGSM(0.1))),
}
reports = {name: report(model) for name, model in models.items()}

print(f"{'':12s} accuracy  corrupted  PGD   calibration error  AUROC")
for name, one in reports.items():
    auroc = one.out_of_distribution["shuffled"]["max softmax"].auroc
    print(
        f"{name:12s} {one.clean['accuracy']:8.1%} {1 - one.mean_corruption_error():9.1%} "
        f"{one.attacks['PGD, 0.1']:6.1%} {one.clean['expected_calibration_error']:16.3f} {auroc:10.3f}"
    )

"""
Which corruptions a method helps with is in the rows. The picture has the difference to plain training, in points of
accuracy, averaged over severities.
"""


def means(one):
    return np.array([np.mean(list(row.values())) for row in one.corruptions.values()])


figure, axis = plt.subplots(figsize=(6.5, 4.2))
names = [name.replace("_", " ") for name in found.corruptions]
places = np.arange(len(names))
for shift, (name, color) in zip((-0.2, 0.2), (("noise", "tab:blue"), ("adversarial", "tab:red"))):
    gain = 100 * (means(reports[name]) - means(found))
    axis.barh(places + shift, gain, 0.4, color=color, label=name)
axis.axvline(0, color="black", linewidth=0.8)
axis.set_yticks(places, names)
axis.invert_yaxis()
axis.set_xlabel("points of accuracy gained on plain training")
axis.set_title("What training on noise and on attacks gains", fontsize=10)
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

noise_gain = 100 * (means(reports["noise"]) - means(found))[:3].mean()
adversarial_gain = reports["adversarial"].attacks["PGD, 0.1"] - found.attacks["PGD, 0.1"]

"""
On the three kinds of noise, training on noise changes accuracy by {noise_gain:+.1f} points: the plain network loses little
there. Both ways of training gain most where it is weak, in motion blur, contrast and fog. Under PGD, adversarial training
changes accuracy by {100 * adversarial_gain:+.0f} points. `mean_corruption_error(reference)` divides the errors by those of a reference model, as
ImageNet-C does, so that corruptions that are hard for all weigh no more:
{reports["adversarial"].mean_corruption_error(found):.2f} for adversarial training, with plain training as the reference.

## AutoAttack

FGSM and PGD are quick, and upper bounds. What leaderboards report is the accuracy under AutoAttack: four attacks without a
setting, one of them without gradients, on the samples that are still robust. It is slow; here it gets {SHOWN:d} images and
half of its steps.
"""

auto = kr.attacks.AutoAttack(0.1, steps=STEPS, queries=10 * STEPS, seed=0)
ranked = {
    name: kr.analysis.auto_attack_accuracy(
        model, x_test[:SHOWN], y_test[:SHOWN], auto, batch_size=SHOWN, verbose=0
    )
    for name, model in models.items()
    if name != "noise"
}
for name, one in ranked.items():
    print(name)
    print(one)

"""
After the first attack the others find little here. Where they find much, and above all where Square does, gradients are
masked and every figure that rests on them is too good; the result then says so. `one.x_adversarial` are the images, `one.robust`
says which samples withstood.

## What to do with it

- Before a release: the report on your test set, with data of another kind that your classifier may meet.
- To compare ways of training: `to_dict()` of each, over several seeds. Differences of a point or two are chance.
- To claim robustness to attacks: `auto_attack_accuracy` with its defaults, on the whole test set.
- To detect foreign inputs: compare the scores in `kr.analysis`; those of features, `MahalanobisScore` and
  `NearestNeighborScore`, often see more than those of outputs.
"""
