"""
# Adversarial training

A classifier that is right on nearly all test images can be made wrong on half of them by changes too small to matter to a
reader. This guide trains scikit-learn's digits, 8×8 images with pixels in [0, 1], so that this no longer
works, and measures by how much. It runs unchanged on JAX, TensorFlow and PyTorch (`KERAS_BACKEND`).

**Use this when** someone may choose the inputs against you, or predictions have to be stable under small changes.

**Do not when** only accuracy on clean data counts: it costs several passes per step, and usually some of that accuracy.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 30
STEPS = 20  # Of the attacks that measure.
POINTS = 7  # Radii in the curve.

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_train, y_train, x_test, y_test = x[:1280], y[:1280], x[1280:], y[1280:]


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

"""
## An attack

An attack is called with a model, inputs and labels, and returns other inputs close by. `epsilon` is the radius of
the ball it searches: here every pixel may change by 0.1, a tenth of the way from white to black. `bounds` is where
inputs live, [0, 1] unless you say otherwise; give `bounds=None` for standardized inputs.

- `FGSM` takes one step along the sign of the gradient: fast, and easy to withstand.
- `PGD` takes many small ones: what to train with.
- `APGD` chooses the step size of every sample by itself: what to measure with. Its two losses fail on different
  models, so use both. They are the first part of AutoAttack, which adds targeted runs and attacks without gradients.
"""

EPSILON = 0.1
pgd = kr.attacks.PGD(EPSILON, step_size=0.025, steps=7, seed=0)
apgd = [
    kr.attacks.APGD(EPSILON, steps=STEPS, seed=0),
    kr.attacks.APGD(EPSILON, steps=STEPS, loss="dlr", seed=0),
]

"""
## Four ways to train

`AdversarialTraining` replaces the inputs of every step by the attack's answer to them (Madry et al.). `TRADES` keeps
the loss on clean inputs and adds the divergence between the predictions before and after an attack on that
divergence. `AWP` perturbs the weights too, and goes around either.

`evaluate_attack=` makes `evaluate`, and the validation in `fit`, report `robust_accuracy` beside the usual metrics,
so that `EarlyStopping("val_robust_accuracy", mode="max")` is all it takes to stop at the most robust epoch. A model
that is trained in another way gets the same number from the callback `kr.callbacks.RobustAccuracy(x, y, attack)`.
"""

kl = kr.attacks.PGD(EPSILON, 0.025, 7, loss="kl", random_start="gaussian", seed=0)
fgsm = kr.attacks.FGSM(EPSILON)
models = {
    "standard": network(),
    "PGD": kr.models.AdversarialTraining(network(), pgd, evaluate_attack=fgsm),
    "TRADES": kr.models.TRADES(network(), kl, beta=6.0, evaluate_attack=fgsm),
    "AWP(TRADES)": kr.models.AWP(
        kr.models.TRADES(network(), kl, beta=6.0, evaluate_attack=fgsm), gamma=0.005
    ),
}
clean = {}
for name, model in models.items():
    model.compile(keras.optimizers.Adam(1e-3), crossentropy, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)
    result = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    clean[name] = result["accuracy"]
    print(f"{name:12s}", ", ".join(f"{key} {value:.3f}" for key, value in result.items()))

"""
What a step costs is the attack: per step of `PGD` a forward pass and a backward pass to the inputs, cheaper than
a training pass since there are no weight gradients. In forward + backward passes, the plain step is 1, FGSM training
2, PGD with 7 steps 8, `TRADES` with it 9 and one forward pass for its target, and `AWP` adds the two passes of
`TRADES` once more.

## What the attack sees

Eight test digits, what `APGD` makes of them for the standard and for the `TRADES` model, and what each model says
then, in red where it is wrong. `APGD` returns the input itself where it finds nothing.
"""

shown = x_test[:8]
figure, axes = plt.subplots(3, 8, figsize=(8, 4))
rows = {"clean": (shown, models["standard"])}
for name in ("standard", "TRADES"):
    moved = keras.ops.convert_to_numpy(apgd[0](models[name], shown, y_test[:8]))
    rows[f"against\n{name}"] = moved, models[name]
for row, (name, (images, model)) in zip(axes, rows.items()):
    predicted = model.predict(images, verbose=0).argmax(axis=1)
    for axis, image, digit, label in zip(row, images, predicted, y_test):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set_xlabel(digit, fontsize=9, color="black" if digit == label else "red")
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
figure.suptitle("digits before and after an attack, and what they are taken for", fontsize=10)
figure.tight_layout()
plt.show()

"""
A targeted attack leads towards labels of your choice: here every digit is to become an 8.
"""

eights = np.full(len(y_test), 8)
towards = kr.attacks.APGD(EPSILON, steps=STEPS, targeted=True, seed=0)
for name in ("standard", "TRADES"):
    moved = towards(models[name], x_test, eights)
    reached = models[name].predict(moved, batch_size=len(x_test), verbose=0).argmax(axis=1) == 8
    print(f"{name:12s} digits read as 8: {np.mean(reached):.3f}, truly {np.mean(y_test == 8):.3f}")

"""
## How robust?

`robust_accuracy` counts a sample only if the model is right on it and no attack of the list changes that. The number
is an upper bound: a stronger attack may find more. A `PGD` that was good enough to train with flatters a model, so
measure with what is stronger.
"""

robust = {}
print(f"{'':12s}  clean   FGSM  PGD and APGD together")
for name, model in models.items():
    weak, robust[name] = (
        float(kr.analysis.robust_accuracy(model, x_test, y_test, attack, batch_size=len(x_test)))
        for attack in (fgsm, [pgd, *apgd])
    )
    print(f"{name:12s} {clean[name]:6.3f} {weak:6.3f} {robust[name]:22.3f}")

"""
The standard model is right on {clean["standard"]:.0%} of the clean images and on {robust["standard"]:.0%} of the attacked ones,
the PGD model on {clean["PGD"]:.0%} and {robust["PGD"]:.0%}. On 517 images, a difference of two points is within chance: on data
as small as these the three robust ways do not part.

The curve over `epsilon` says more than a number. It must start at the clean accuracy and fall to zero; one that stays
high at large `epsilon` tells of an attack that gets no gradient, not of a robust model.
"""

radii = np.linspace(0, 0.3, POINTS)
curves = {}
for name, model in models.items():
    curves[name] = [
        kr.analysis.robust_accuracy(
            model,
            x_test,
            y_test,
            kr.attacks.PGD(radius, radius / 4, min(15, STEPS), seed=0),
            batch_size=len(x_test),
        )
        for radius in radii
    ]
    print(f"{name:12s}", " ".join(f"{value:.2f}" for value in curves[name]))

"""
The grey line is the radius of the training. Beyond it `TRADES` is ahead of PGD.
"""

figure, axis = plt.subplots(figsize=(8, 3.4))
for name, curve in curves.items():
    axis.plot(radii, curve, "--" if name.startswith("AWP") else "-", label=name)
axis.axvline(EPSILON, color="0.8", zorder=0)
axis.set_title("robust accuracy against the radius of the attack", fontsize=10)
axis.set_xlabel("epsilon (trained at 0.1)")
axis.set_ylabel("robust accuracy")
axis.set_ylim(0, 1)
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
## Text, and other inputs that cannot be moved

Token ids have no neighbours. `layer=` names the layer whose output is moved instead, an embedding say; there are no
bounds there. The rest is the same, in training and in measuring.
"""

tokens = (4 * x_train).astype("int32")  # Pixels as words of a vocabulary of five.
reader = keras.Sequential(
    [
        keras.Input((64,), dtype="int32"),
        keras.layers.Embedding(5, 4, name="words"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
attack = kr.attacks.PGD(0.02, 0.01, steps=3, layer="words", bounds=None, seed=0)
model = kr.models.AdversarialTraining(reader, attack, evaluate_attack=attack)
model.compile(keras.optimizers.Adam(0.01), crossentropy, metrics=["accuracy"])
model.fit(tokens, y_train, batch_size=64, epochs=max(EPOCHS // 6, 1), verbose=0)
result = model.evaluate(tokens, y_train, verbose=0, return_dict=True)
print("text        ", ", ".join(f"{key} {value:.3f}" for key, value in result.items()))

"""
## Where to go from here

- The [quickstart](quickstart.md) shows the other kinds of parts.
- [Write your own train step](write_your_own_train_step.md): the hooks that these models are made of.
- The [catalog](../catalog.md) lists every attack and model with its cost and source.
"""
