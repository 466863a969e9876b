"""Pruning: nine of ten weights, or 49 of 50, become zero."""

import dataclasses
from typing import Any

import keras
import numpy as np

import keras_regularize as kr
from benchmarks.comparisons._comparison import PLAIN, Measure, Method, Task, grid
from benchmarks.comparisons._digits import accuracy, digits, mlp

SPARSITIES = (0.9, 0.98)
#: Share of the epochs in which the pruned network trains on.
AFTER = 1 / 3


@dataclasses.dataclass(frozen=True)
class Pruned:
    """A network with its weights at each sparsity, and at 0 before it was pruned."""

    net: Any
    weights: dict[float, list[np.ndarray]]


def data(generator):
    return digits(generator, 600, 300)


def measure(pruned, data, part):
    found = {}
    for sparsity, weights in pruned.weights.items():
        pruned.net.set_weights(weights)
        found[f"at{round(100 * sparsity)}"] = accuracy(pruned.net, *getattr(data, part))
    return found


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def zeros(weights):
    kernels = [w for w in weights if w.ndim == 2]
    return sum((w == 0).sum() for w in kernels) / sum(w.size for w in kernels)


def smallest(weights, sparsity):
    """Masks without the smallest kernel weights of the whole network, a mask per variable."""
    sizes = np.sort(np.abs(np.concatenate([w for w in weights if w.ndim == 2], axis=None)))
    threshold = sizes[round(sparsity * len(sizes)) - 1]
    return [np.abs(w) > threshold if w.ndim == 2 else None for w in weights]


def cut(run, **dense):
    """Without training on."""
    net = run.train(mlp(**dense))
    weights = net.get_weights()
    found = {0: weights}
    for sparsity in SPARSITIES:
        masks = smallest(weights, sparsity)
        found[sparsity] = [w if m is None else w * m for w, m in zip(weights, masks)]
    return Pruned(net, found)


def cut_and_trained_on(run, net, optimizer=None):
    """Trains a network, prunes by size, and trains what is left on; at each sparsity from the same weights."""
    run.train(net, optimizer=optimizer, epochs=(1 - AFTER) * run.epochs)
    trained = net.get_weights()
    found = {0: trained}
    # What the method did to the weights ends here.
    plain = mlp()
    for sparsity in SPARSITIES:
        plain.set_weights(trained)
        masked = kr.optimizers.Masked(sgd())
        masked.build(plain.trainable_variables)
        masked.set_masks(smallest(trained, sparsity))
        run.train(plain, optimizer=masked, epochs=AFTER * run.epochs)
        found[sparsity] = checked(plain.get_weights(), sparsity)
    run.seconds /= 1 + AFTER  # One of the two would have done.
    return Pruned(plain, found)


def checked(weights, sparsity):
    if zeros(weights) < sparsity - 0.005:
        raise RuntimeError(f"expected {sparsity} zeros, got {zeros(weights)}")
    return weights


def gradual(run, prunings):
    """Prunes a part of what is left after every epoch of the middle of the training."""
    found = {}
    for sparsity in SPARSITIES:
        keras.utils.set_random_seed(run.seed)
        net = run.train(
            mlp(), optimizer=kr.optimizers.Masked(sgd()), epochs=(1 - AFTER) * run.epochs - prunings
        )
        found[0] = net.get_weights()
        pruning = kr.callbacks.IterativePruning(
            0.0, "loss", "max", 1 - (1 - sparsity) ** (1 / prunings), where="kernel"
        )
        run.fit(net, epochs=prunings, callbacks=[pruning])
        run.fit(net, epochs=AFTER * run.epochs)
        found[sparsity] = checked(net.get_weights(), sparsity)
    run.seconds /= len(SPARSITIES)
    return Pruned(net, found)


def by_importance(run):
    net = run.train(mlp(), epochs=(1 - AFTER) * run.epochs)
    trained = net.get_weights()
    found = {0: trained}
    for sparsity in SPARSITIES:
        net.set_weights(trained)
        pruning = kr.callbacks.RelativeImportancePruning(run.x, sparsity)
        run.train(
            net,
            optimizer=kr.optimizers.Masked(sgd()),
            epochs=AFTER * run.epochs,
            callbacks=[pruning],
        )
        found[sparsity] = checked(net.get_weights(), sparsity)
    run.seconds /= 1 + AFTER
    return Pruned(net, found)


def art(run, growth, factor):
    found = {}
    for sparsity in SPARSITIES:
        keras.utils.set_random_seed(run.seed)
        net = mlp()
        model = kr.models.ART(net, sparsity, factor, growth, warmup_epochs=run.epochs // 6)
        run.train(model, epochs=(1 - AFTER) * run.epochs)
        found[0] = net.get_weights()
        masked = kr.optimizers.Masked(sgd())
        masked.build(net.trainable_variables)
        masked.set_masks(model.masks())
        run.train(net, optimizer=masked, epochs=AFTER * run.epochs)
        found[sparsity] = checked(net.get_weights(), sparsity)
    run.seconds /= len(SPARSITIES)
    return Pruned(net, found)


def penalized(make):
    return lambda run, **s: cut_and_trained_on(run, mlp(kernel_regularizer=make(**s)))


def penalized_and_cut(make):
    return lambda run, **s: cut(run, kernel_regularizer=make(**s))


def constrained(key, settings):
    make = getattr(kr.constraints, key)
    return Method(
        f"constraints.{key}",
        lambda run, **s: cut_and_trained_on(run, mlp(kernel_constraint=make(**s))),
        settings,
    )


def optimized(key, settings):
    make = getattr(kr.optimizers, key)
    return Method(
        f"optimizers.{key}",
        lambda run, **s: cut_and_trained_on(run, mlp(), make(sgd(), **s)),
        settings,
    )


L1 = grid(l1=(3e-4, 1e-3, 3e-3, 5e-3))
L2 = grid(l2=(1e-3, 3e-3, 1e-2, 2e-2))

METHODS = [
    Method(None, cut, label=PLAIN),
    Method(None, penalized_and_cut(keras.regularizers.L1), L1, "L1 penalty"),
    Method(None, penalized_and_cut(keras.regularizers.L2), L2, "L2 penalty"),
    Method("optimizers.Masked", lambda run: cut_and_trained_on(run, mlp())),
    Method(
        "optimizers.Masked",
        penalized(keras.regularizers.L1),
        L1,
        "optimizers.Masked, L1 penalty",
    ),
    Method(
        "optimizers.Masked",
        penalized(keras.regularizers.L2),
        L2,
        "optimizers.Masked, L2 penalty",
    ),
    Method(
        "regularizers.HyperSparse",
        penalized(kr.regularizers.HyperSparse),
        grid(factor=(1e-4, 1e-3, 1e-4, 1e-3), sparsity=(0.9, 0.9, 0.98, 0.98)),
    ),
    Method("models.ART", art, grid(growth=(1.1, 1.3, 1.3, 1.6), factor=(1e-4, 1e-5, 1e-4, 1e-5))),
    optimized("Proximal", grid(factor=(1e-3, 3e-3, 1e-2, 3e-2))),
    optimized("LOBSTER", grid(factor=(3e-3, 1e-2, 2e-2, 4e-2))),
    optimized("IrrelevantWeightDecay", grid(factor=(3e-3, 1e-2, 2e-2, 4e-2))),
    constrained("SoftThreshold", grid(threshold=(3e-4, 1e-3, 2e-3, 4e-3))),
    constrained("HardThreshold", grid(threshold=(1e-2, 3e-2, 6e-2, 1e-1))),
    constrained("GroupSoftThreshold", grid(threshold=(1e-3, 3e-3, 1e-2, 2e-2))),
    Method("callbacks.IterativePruning", gradual, grid(prunings=(3, 6, 12, 18))),
    Method("callbacks.RelativeImportancePruning", by_importance),
]

PAGE = """
**Prune in steps with `kr.callbacks.IterativePruning`**: it is among the best both at 98 % zeros
({rows[callbacks.IterativePruning].at98} %) and at 90 % ({rows[callbacks.IterativePruning].at90} %), and takes no
choice but in how many epochs. For very many zeros an L1 penalty from the start, and then
`kr.optimizers.Masked` to train on what is left, is as good ({rows[optimizers.Masked, L1 penalty].at98} %). What
matters most is to train on after pruning: without, {rows[plain].at98} % remain of {rows[plain].at0} %.

{table}

{picture}

## What was compared

Nine of ten kernel weights, or 49 of 50, become zero. A network trains for two thirds of the epochs with the
method, the smallest weights of all kernels together are set to zero, and it trains on for the last third with
`kr.optimizers.Masked`, which keeps zeros at zero. Rows of Keras train for all epochs and are pruned at the end.
*Before pruning* is the accuracy until then: what the method itself costs. Settings were chosen by the accuracy at
98 % and are the same at 90 %.

## What to use

- **`kr.optimizers.Masked`** alone, without anything before the pruning, loses hardly anything at 90 %
  ({rows[optimizers.Masked].at90} %). If that is enough, stop here.
- **`kr.callbacks.IterativePruning`** and **`kr.constraints.HardThreshold`**
  ({rows[constraints.HardThreshold].at98} %) for 98 %: both set small weights to zero while the network can still
  make up for it, and shrink no others.
- **An L1 penalty**, or `kr.optimizers.Proximal` and `kr.constraints.SoftThreshold`, which shrink the same way but
  reach exact zeros. At 98 % none of the three is better than another; at 90 % all three are a point behind, with
  the strength that was chosen for 98 %. Keras' L1 penalty
  ({rows[L1 penalty].at98} %) needs no training after pruning; with it, it is two points better.
- `kr.regularizers.HyperSparse` ({rows[regularizers.HyperSparse].at98} %) and `kr.models.ART`
  ({rows[models.ART].at98} %) sort all weights at every step, which takes long here, and give no more. `ART` has
  driven most of the network out by the time of pruning, hence its last column.
- `kr.constraints.GroupSoftThreshold` takes whole units out. That makes a network smaller without sparse
  kernels, and single zeros are not what it is for.
- `kr.optimizers.LOBSTER`, `kr.optimizers.IrrelevantWeightDecay` and L2 penalties do nothing for the accuracy
  after pruning: no better than `Masked` alone at 98 %, worse at 90 %.
- `kr.callbacks.RelativeImportancePruning` prunes each layer by the same share: at 98 % the last one is left
  with 26 weights for its ten classes ({rows[callbacks.RelativeImportancePruning].at98} %). Use it for moderate
  shares.

## Limits

One small network with far more weights than it needs, and one training schedule. Zeros save memory and time only
where the format or hardware can use them.

{protocol}
"""

TASK = Task(
    title="pruning",
    data=data,
    measure=measure,
    measures={
        "at98": Measure("accuracy at 98 % zeros"),
        "at90": Measure("accuracy at 90 % zeros"),
        "at0": Measure("before pruning, %"),
    },
    claims=[
        *(
            (better, worse, "at98")
            for better in (
                "callbacks.IterativePruning",
                "optimizers.Masked, L1 penalty",
                "optimizers.Proximal",
                "constraints.SoftThreshold",
                "constraints.HardThreshold",
            )
            for worse in ("optimizers.Masked", "L1 penalty", "models.ART", "optimizers.LOBSTER")
        ),
        *(
            (better, worse, "at90")
            for better in (
                "callbacks.IterativePruning",
                "constraints.HardThreshold",
                "optimizers.Masked",
            )
            for worse in (
                "optimizers.Masked, L1 penalty",
                "optimizers.Proximal",
                "constraints.SoftThreshold",
                "optimizers.LOBSTER",
                "optimizers.IrrelevantWeightDecay",
                "optimizers.Masked, L2 penalty",
                "constraints.GroupSoftThreshold",
                "callbacks.RelativeImportancePruning",
                "plain",
            )
        ),
        ("optimizers.Masked", "callbacks.RelativeImportancePruning", "at98"),
        ("optimizers.Masked", "plain", "at98"),
        ("L1 penalty", "plain", "at98"),
    ],
    methods=METHODS,
    optimizer=sgd,
    epochs=36,
    batch_size=50,
    page=PAGE,
)
