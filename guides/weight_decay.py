"""
# Weight decay and the learning rate

How much weight decay is right depends on the optimizer, on the learning rate, on the length of the training, on
normalization layers and on the size of the network. This guide looks at each on scikit-learn's digits: which form of
decay can be tuned apart from the learning rate, what carries over to a longer training, how a few short range tests find
both, what decay does where a normalization follows, and how strong it should be when there are few samples. Not
everything that papers report shows on small networks and small data; where it does not, the guide says so.

**Use this when** you have to choose a weight decay, above all for few data, a long training, or a network with normalization.

**Do not when** a recipe is known that was tuned for your network and your data: its decay, rate and length belong together.

Where there is only one training for a number, differences below 0.01 mean little.
"""

import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

EPOCHS = 10  # Of the shortest trainings; the others are multiples of it.
SEEDS = 3
POINTS = 4  # Of what is tried of a setting.

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
x, y = (x[order] / 16).astype("float32"), y[order]
x_test, y_test = x[600:], y[600:]

# 300 samples, of which 30 % have a random label: without regularization they are learnt by heart.
rng = np.random.default_rng(1)
noisy = x[:300], np.where(rng.random(300) < 0.3, rng.integers(0, 10, 300), y[:300])

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CosineDecay = keras.optimizers.schedules.CosineDecay


def network(widths=(64,), seed=0, penalty=None, normalized=False):
    keras.utils.set_random_seed(seed)
    net = keras.Sequential([keras.Input((64,))])
    for width in widths:
        net.add(keras.layers.Dense(width, use_bias=not normalized, kernel_regularizer=penalty))
        if normalized:
            net.add(keras.layers.BatchNormalization())
        net.add(keras.layers.ReLU())
    net.add(keras.layers.Dense(10, kernel_regularizer=penalty))
    return net


def at_once(steps):
    """As many steps per call, where the backend can: PyTorch cannot."""
    return 1 if keras.backend.backend() == "torch" else steps


def fit(net, optimizer, data, epochs, callbacks=(), **options):
    """Trains in batches of 30; a whole epoch is one call of the compiled step, unless a callback sets rates."""
    steps = 1 if callbacks else at_once(len(data[0]) // 30)
    net.compile(optimizer, crossentropy, metrics=["accuracy"], steps_per_execution=steps)
    options |= {"batch_size": 30, "epochs": epochs, "callbacks": list(callbacks), "verbose": 0}
    return net.fit(*data, **options).history


def accuracy(net):
    return np.mean(net.predict_on_batch(x_test).argmax(axis=-1) == y_test)


def style(axis, xlabel, ylabel, legend=True):
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize=9)


"""
## Three forms of decay, and the learning rate

With Adam a weight can be made smaller in three ways that have one name:

- an L2 penalty in the loss, $\\frac{\\lambda}{2} \\lVert w \\rVert^2$: its gradient goes through Adam's division;
- `weight_decay=` of Keras' (and PyTorch's) AdamW subtracts $\\alpha \\lambda w$ at learning rate $\\alpha$;
- `kr.optimizers.DecoupledWeightDecay` subtracts $\\lambda w$, as in the paper that named it: the decay does not know
  the learning rate. `schedule` scales both.

All three train for every pair of learning rate and decay, with cosine annealing.
"""

rates = np.geomspace(3e-3, 3e-2, POINTS - 1)
num_steps = 3 * EPOCHS * 10


def penalized(rate, decay):
    penalty = keras.regularizers.L2(decay / 2)  # Keras' factor has no half.
    return network(penalty=penalty), keras.optimizers.Adam(CosineDecay(rate, num_steps))


def keras_decay(rate, decay):
    return network(), keras.optimizers.AdamW(CosineDecay(rate, num_steps), weight_decay=decay)


def decoupled(rate, decay):
    inner, schedule = keras.optimizers.Adam(rate), CosineDecay(1.0, num_steps)
    return network(), kr.optimizers.DecoupledWeightDecay(inner, decay, schedule)


forms = {
    "L2 penalty": (penalized, np.geomspace(3e-3, 1e-1, POINTS)),
    "AdamW of Keras": (keras_decay, np.geomspace(3e-1, 1e1, POINTS)),
    "DecoupledWeightDecay": (decoupled, np.geomspace(1e-3, 3e-2, POINTS)),
}
tables, carried = {}, {}
for name, (build, decays) in forms.items():
    table = []
    for rate in rates:
        table.append([])
        for decay in decays:
            net, optimizer = build(rate, decay)
            fit(net, optimizer, noisy, 3 * EPOCHS)
            table[-1].append(accuracy(net))
    tables[name] = np.array(table)
    best = tables[name].argmax(axis=1)
    carried[name] = tables[name][:, best[0]]
    print(f"{name}, best decay at each rate:")
    print("   ", ", ".join(f"{decays[i]:.1e} ({table[k][i]:.3f})" for k, i in enumerate(best)))
    print("    that of the first rate at all of them:", np.round(carried[name], 3))

"""
All pairs, the best at each rate with a ring:
"""

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="constrained")
for (name, (_, decays)), axis in zip(forms.items(), axes):
    picture = axis.imshow(tables[name], vmin=0.75, vmax=0.9, origin="lower", aspect="auto")
    axis.plot(tables[name].argmax(axis=1), range(len(rates)), "wo", markerfacecolor="none")
    axis.set_xticks(range(len(decays)), [f"{decay:.2g}" for decay in decays])
    axis.set_yticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
    axis.set_title(name, fontsize=10)
    axis.set_xlabel(r"$\lambda$")
axes[0].set_ylabel("learning rate")
figure.colorbar(picture, ax=axes, label="accuracy in test")
plt.show()

"""
The best decay of AdamW hardly moves with the rate, and the best of `DecoupledWeightDecay` grows with it: that is the same,
because $\\alpha \\lambda$ of the one is the $\\lambda$ of the other. What was best at the lowest rate keeps
{carried["AdamW of Keras"][-1]:.2f} at the highest with AdamW, {carried["L2 penalty"][-1]:.2f} with the penalty, and
{carried["DecoupledWeightDecay"][-1]:.2f} with `DecoupledWeightDecay`. The paper found the reverse on CIFAR-10. The likely reason
is the balance in which decay takes from a weight what the steps add to it. Steps of Adam are as large as the learning rate,
so weights settle at a length that goes with $\\alpha / \\lambda$ if the decay does not know the rate, and with
$1 / \\lambda$ if it is $\\alpha \\lambda$. A small network gets there soon. In a training that is too short for it, what counts
is how much the decay takes away in all steps, whatever their size, and there the decoupled form should be the one that
carries over. The penalty is not worse here than the decoupled forms.

`LAWN` fixes the length of every kernel after some steps and has no decay to tune:
"""

adam = keras.optimizers.Adam
others = {
    "plain Adam": adam(CosineDecay(1e-2, num_steps)),
    "LAWN": kr.optimizers.LAWN(adam(CosineDecay(1e-2, num_steps)), free_steps=30),
}
for name, optimizer in others.items():
    net = network()
    fit(net, optimizer, noisy, 3 * EPOCHS)
    print(f"{name:10s} at learning rate 0.01: {accuracy(net):.3f}")

"""

## A longer training

The same decay per step acts more often in a longer training. `normalized_weight_decay` divides by the root of the
number of steps: what is found on a short training should then fit a long one.
"""

lengths = (EPOCHS, 3 * EPOCHS, 12 * EPOCHS)
decays = np.geomspace(1e-3, 3e-2, POINTS)
curves, units, best_decay = {}, {}, {}
for epochs in lengths:
    curves[epochs] = row = []
    for decay in decays:
        inner, schedule = keras.optimizers.Adam(1e-2), CosineDecay(1.0, 10 * epochs)
        net = network()
        fit(net, kr.optimizers.DecoupledWeightDecay(inner, decay, schedule), noisy, epochs)
        row.append(accuracy(net))
    units[epochs] = kr.optimizers.normalized_weight_decay(
        1.0, batch_size=30, samples=300, epochs=epochs
    )
    best = int(np.argmax(row))
    print(
        f"{epochs:3d} epochs: best decay {decays[best]:.1e}, "
        f"normalized {decays[best] / units[epochs]:.3f}; all:",
        np.round(row, 3),
    )

"""
On the left the decay as it is, on the right normalized:
"""

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for epochs, row in curves.items():
    axes[0].semilogx(decays, row, "o-", markersize=3, label=f"{epochs} epochs")
    axes[1].semilogx(decays / units[epochs], row, "o-", markersize=3, label=f"{epochs} epochs")
axes[0].set_title("accuracy over the decay", fontsize=10)
axes[1].set_title("and over the normalized decay", fontsize=10)
style(axes[0], r"decay per step $\lambda$", "accuracy in test")
style(axes[1], r"normalized decay $\lambda_\mathrm{norm}$", "")
figure.tight_layout()
plt.show()

"""
In 10 epochs there is no time to learn wrong labels by heart, and less decay does as well; in 120 epochs it makes the
difference. A decay of about 0.01 per step is right or nearly right for all three lengths. Normalized, the best decay goes up
with the length; it is the decay per step that carries over on this problem, for the reason above: a balance does not depend
on the number of steps. Where a training ends long before that, more steps ask for less decay in each, and normalization is
the better guess.

`kr.callbacks.WarmRestarts` anneals rate and decay in runs, each twice as long as the one before, and normalizes the decay
anew in each: one training with a usable network at the end of every run, if nobody knows how long it should be.
"""

ends = [EPOCHS, 3 * EPOCHS, 7 * EPOCHS]
net = network()
history = fit(
    net,
    kr.optimizers.DecoupledWeightDecay(keras.optimizers.Adam(1e-2), 0.1 * units[EPOCHS]),
    noisy,
    ends[-1],
    callbacks=[kr.callbacks.WarmRestarts(EPOCHS, multiplier=2)],
    validation_data=(x_test, y_test),
    validation_batch_size=len(y_test),
)
for end in ends:
    print(f"restarts, after {end:3d} epochs: {history['val_accuracy'][end - 1]:.3f}")

"""
The first two runs end near single trainings of 10 and 30 epochs with a decay of about 0.01. The third, whose decay per
step is half that of the first, learns wrong labels again. On a problem like this one, where the decay per step carries
over, `DecoupledWeightDecay` with a constant decay is the better choice.

## Range tests instead of a grid

A training in which the learning rate rises batch by batch shows in seconds which rates are too high.
`kr.hyper.weight_decay_search` runs it for several decays and keeps the largest that still allows the highest rate: what
regularization is left to add when the rate, which regularizes too, is as high as it can be. Here 600 samples with clean
labels, two hidden layers, and SGD with momentum, whose `weight_decay` is that of Keras.
"""

clean = x[:600], y[:600]
net = network((64, 64))
net.compile(keras.optimizers.SGD(momentum=0.9), crossentropy)
found = kr.hyper.weight_decay_search(
    net,
    *clean,
    weight_decays=(1.0, 1e-1, 1e-2, 0.0),
    bisections=POINTS - 1,
    finder=kr.callbacks.LearningRateFinder(1e-3, 10.0, smoothing=0.9),
    batch_size=30,
    epochs=EPOCHS,
    verbose=0,
)
for decay, test in sorted(found.range_tests.items()):
    low = int(np.argmin(test.smoothed_losses))
    print(f"decay {decay:.4f}: lowest {test.smoothed_losses[low]:.3f}", end=" ")
    print(f"at rate {test.learning_rates[low]:.3f}")
print(f"found: decay {found.weight_decay:.4f}, learning rate {found.learning_rate:.4f}")

"""
The rate that it suggests, a tenth of the one with the lowest loss, is for a constant rate. One cycle goes up to half of
that with the lowest loss; the momentum stays at 0.9, or mirrors the rate between 0.95 and 0.85 as the paper has it.
"""

rate = found.learning_rate
fixed, momentum_too = (
    kr.callbacks.OneCycle(5 * rate, momentum=None),
    kr.callbacks.OneCycle(5 * rate),
)
runs = {
    "constant, three times as long": (3 * EPOCHS, found.weight_decay, []),
    "constant": (EPOCHS, found.weight_decay, []),
    "one cycle": (EPOCHS, found.weight_decay, [fixed]),
    "one cycle, of the momentum too": (EPOCHS, found.weight_decay, [momentum_too]),
    "one cycle, decay 0.03": (EPOCHS, 0.03, [fixed]),
}
cycled = {}
for name, (epochs, decay, callbacks) in runs.items():
    repeated = []
    for seed in range(SEEDS):
        net = network((64, 64), seed)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=decay)
        options = {"validation_data": (x_test, y_test), "validation_batch_size": len(y_test)}
        repeated.append(fit(net, optimizer, clean, epochs, callbacks, **options)["val_accuracy"])
    cycled[name] = np.mean(repeated, axis=0)
    spread = np.std([curve[-1] for curve in repeated])
    print(f"{name:30s} accuracy {cycled[name][-1]:.3f} ± {spread:.3f}")

"""
The range tests, and the trainings epoch by epoch:
"""

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for decay in (0.0, 1e-2, 1e-1, 1.0):
    if decay in found.range_tests:
        test = found.range_tests[decay]
        axes[0].semilogx(test.learning_rates, test.smoothed_losses, label=f"decay {decay:g}")
for name, curve in cycled.items():
    axes[1].plot(np.arange(1, len(curve) + 1), curve, label=name)
axes[0].set_title("range tests", fontsize=10)
axes[1].set_title("trainings", fontsize=10)
axes[0].set_ylim(0, 2.6)
axes[1].set_ylim(0.7, 1.0)
style(axes[0], "learning rate", "smoothed loss")
style(axes[1], "epoch", "accuracy in test")
figure.tight_layout()
plt.show()

"""
Up to a decay of 0.1 the curves are nearly the same: the loss falls up to some rate, and rises at once above it. Stronger
decay lets the loss fall less at every rate. The search takes the largest decay with which the loss falls by nine tenths of
what it does without, {found.weight_decay:.3f}, and suggests a rate of {found.learning_rate:.3f}.

With both, one cycle of 10 epochs reaches {cycled["one cycle"][-1]:.3f}, where a constant rate reaches {cycled["constant"][-1]:.3f},
and {cycled["constant, three times as long"][-1]:.3f} in three times as many (means of three seeds, ± is their standard
deviation). Cycling the momentum as well is worse on these 200 steps: a momentum of 0.95 remembers too much of the highest
rates.

What the search finds is as much decay as training bears, and not yet what is best in test: one cycle with 0.03, which was
picked afterwards, gets further. It bounds the range in which validation data have to decide.

## Where a normalization follows

The length of a kernel before a batch normalization does not change the function. Decay cannot regularize it; it sets
the length, and so the size of a step relative to it, $\\eta / \\lVert w \\rVert^2$. `EffectiveLearningRate` logs both.
Only this kernel decays here, at three pairs of rate and decay with the same product, and without decay.
"""

watched = {}
print("rate  decay  length                 effective rate   accuracy")
for rate, decay in ((0.3, 1e-2), (0.1, 3e-2), (0.03, 1e-1), (0.1, 0.0)):
    net = network(normalized=True)
    optimizer = keras.optimizers.SGD(rate, weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_list=net.trainable_variables[1:])
    watch = kr.callbacks.EffectiveLearningRate()
    history = fit(net, optimizer, clean, 6 * EPOCHS, [watch])
    layer = net.layers[0].name
    norm, effective = history[f"{layer}_norm"], history[f"{layer}_effective_learning_rate"]
    watched[rate, decay] = norm, effective
    print(
        f"{rate:4.2f} {decay:6.2f}  from {norm[0]:4.1f} to {norm[-1]:4.1f}  "
        f"from {effective[0]:.4f} to {effective[-1]:.4f} {accuracy(net):10.3f}"
    )

"""
Epoch by epoch:
"""

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for (rate, decay), values in watched.items():
    for axis, curve in zip(axes, values):
        axis.semilogy(np.arange(1, len(curve) + 1), curve, label=f"rate {rate:g}, decay {decay:g}")
axes[0].set_title("length of the kernel", fontsize=10)
axes[1].set_title("effective learning rate", fontsize=10)
style(axes[0], "epoch", "", legend=False)
axes[0].set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
axes[0].minorticks_off()
style(axes[1], "epoch", "")
figure.tight_layout()
plt.show()

"""
Whatever the rate, the three kernels shrink until their effective rates meet, while their lengths differ. Without decay both
stay where they were. So decay is here a learning-rate schedule that rises far above that, and that is not what this
problem asks for: accuracy is not better with decay than without. Before a normalization set the rate, and let it fall at the
end, rather than the decay.

## Few samples, large networks

With 200 samples, and as many epochs as one likes, a larger network is not simply better: it has to be regularized more.
The recipe of *Pre-training under infinite compute*: much more decay than usual, several networks with separate
initializations whose logits are averaged, and a small student that learns from them. Recipes are compared by the loss
that they would reach at infinite width, the asymptote of a power law.

The members of an ensemble are trained side by side, as the outputs of one model with the sum of their losses. Since Adam
treats every weight by itself, that is the same as one after the other on the same batches.
"""

few = x[:200], y[:200]
widths = [8 * 2**k for k in range(POINTS + 2)]
MEMBERS = 4


def members(width, decay):
    keras.utils.set_random_seed(0)
    nets = [network((width, width), seed) for seed in range(MEMBERS)]
    inputs = keras.Input((64,))
    joint = keras.Model(inputs, [net(inputs) for net in nets])
    optimizer = keras.optimizers.AdamW(3e-3, weight_decay=decay)
    joint.compile(optimizer, [crossentropy] * MEMBERS, steps_per_execution=at_once(4))
    joint.fit(few[0], [few[1]] * MEMBERS, batch_size=50, epochs=9 * EPOCHS, verbose=0)
    return nets


def measured(net):
    logits = net.predict_on_batch(x_test)
    loss = crossentropy(y_test, logits)
    return float(loss), np.mean(logits.argmax(axis=-1) == y_test)


losses, ensembles = {}, {}
print("decay  width   single: loss  accuracy   ensemble: loss  accuracy")
for decay in (0.9, 0.03):
    for width in widths:
        nets = members(width, decay)
        single = np.mean([measured(net) for net in nets], axis=0)
        ensembles[decay, width] = kr.models.Ensemble(nets)
        together = measured(ensembles[decay, width])
        losses.setdefault((decay, "single"), []).append(single[0])
        losses.setdefault((decay, "ensemble"), []).append(together[0])
        print(
            f"{decay:5.2f} {width:6d} {single[0]:14.3f} {single[1]:9.3f} "
            f"{together[0]:16.3f} {together[1]:9.3f}"
        )

"""
Where the losses would end at infinite width, and between which values that moves if any one width is left out. (Where the
loss does not fall to an asymptote above zero, `fit_power_law` warns.)
"""

warnings.simplefilter("ignore", UserWarning)
asymptotes = {}
for (decay, kind), row in losses.items():
    asymptotes[decay, kind] = kr.analysis.fit_power_law(widths, row).asymptote
    kept = [np.delete(np.arange(len(row)), i) for i in range(len(row))]
    others = [
        kr.analysis.fit_power_law(np.array(widths)[k], np.array(row)[k]).asymptote for k in kept
    ]
    print(
        f"decay {decay:4.2f}, {kind:8s}: asymptote {asymptotes[decay, kind]:.3f} "
        f"({min(others):.3f} to {max(others):.3f})"
    )

"""
As a picture:
"""

figure, axis = plt.subplots(figsize=(8, 3.6))
for (decay, kind), row in losses.items():
    axis.loglog(
        widths,
        row,
        "-" if kind == "single" else "--",
        marker="o",
        markersize=3,
        color="C0" if decay == 0.9 else "C1",
        label=f"decay {decay:g}, {kind}",
    )
axis.set_title("loss in test over the width: single networks and ensembles", fontsize=10)
axis.set_xticks(widths, widths)
axis.set_yticks([0.15, 0.2, 0.3, 0.4, 0.5], ["0.15", "0.2", "0.3", "0.4", "0.5"])
axis.minorticks_off()
style(axis, "width", "")
figure.tight_layout()
plt.show()

"""
With a decay of 0.9, which is 30 times the other, small networks are worse and wide ones better: the asymptotes are
{asymptotes[0.9, "single"]:.3f} and {asymptotes[0.03, "single"]:.3f}.

Ensembles help where networks are small, and there they prefer less decay, as the paper says of members. But wide networks of
different initializations agree here, and the ensemble does not lower the asymptote, far from what it brings in language
models.

An ensemble of four wide networks is expensive to run. `Distillation` trains a student, eight times narrower, on its
predictions.
"""

width = widths[-1] // 8
teacher, taught = ensembles[0.9, widths[-1]], {}
for name in ("alone", "student"):
    row = []
    for seed in range(SEEDS):
        net = network((width, width), seed)
        model = net
        if name == "student":
            model = kr.models.Distillation(net, teacher, alpha=0.1, temperature=2.0)
        model.compile(keras.optimizers.AdamW(3e-3, weight_decay=0.03), crossentropy)
        model.fit(*few, batch_size=50, epochs=9 * EPOCHS, verbose=0)
        row.append(measured(net))
    taught[name] = np.mean(row, axis=0)
    print(f"{name:8s} width {width}: loss {taught[name][0]:.3f}, accuracy {taught[name][1]:.3f}")
taught["teacher"] = measured(teacher)
print(
    f"teacher  width {widths[-1]}: loss {taught['teacher'][0]:.3f}, accuracy {taught['teacher'][1]:.3f}"
)

"""
The student has a loss of {taught["student"][0]:.3f} (mean of three), where the same network alone has
{taught["alone"][0]:.3f}: some of what the ensemble knows, {taught["teacher"][0]:.3f}, in a 64th of the weights of the hidden layer
of one member.

## In short

- Which form of decay carries over to another learning rate depends on the training. Check it at a second rate.
- `weight_decay_search` bounds the decay from above and finds a rate, for a few hundred steps each; then `OneCycle`.
- Decay of kernels before a normalization is a learning-rate schedule; `EffectiveLearningRate` shows it.
- Few samples: a wide network with far more decay than usual, an ensemble if networks are small, and a student of it.
"""
