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
    """A network with its weights at each sparsity."""

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


def dense(run):
    net = run.train(mlp())
    return Pruned(net, {sparsity: net.get_weights() for sparsity in SPARSITIES})


def cut(run):
    """Without training on."""
    net, found = run.train(mlp()), {}
    weights = net.get_weights()
    for sparsity in SPARSITIES:
        masks = smallest(weights, sparsity)
        found[sparsity] = [w if m is None else w * m for w, m in zip(weights, masks)]
    return Pruned(net, found)


def cut_and_trained_on(run, net, optimizer=None):
    """Trains a network, prunes by size, and trains what is left on; at each sparsity from the same weights."""
    run.train(net, optimizer=optimizer, epochs=(1 - AFTER) * run.epochs)
    trained, found = net.get_weights(), {}
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
    trained, found = net.get_weights(), {}
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
        masked = kr.optimizers.Masked(sgd())
        masked.build(net.trainable_variables)
        masked.set_masks(model.masks())
        run.train(net, optimizer=masked, epochs=AFTER * run.epochs)
        found[sparsity] = checked(net.get_weights(), sparsity)
    run.seconds /= len(SPARSITIES)
    return Pruned(net, found)


def regularized(make, settings, key=None, label=""):
    return Method(
        key,
        lambda run, **s: cut_and_trained_on(run, mlp(kernel_regularizer=make(**s))),
        settings,
        label,
    )


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


METHODS = [
    Method(None, dense, label=PLAIN),
    Method(None, cut, label="pruned, not trained on"),
    Method("optimizers.Masked", lambda run: cut_and_trained_on(run, mlp())),
    regularized(keras.regularizers.L1, grid(l1=(1e-5, 1e-4, 3e-4, 1e-3)), label="L1 penalty"),
    regularized(keras.regularizers.L2, grid(l2=(1e-4, 1e-3, 3e-3, 1e-2)), label="L2 penalty"),
    regularized(
        kr.regularizers.HyperSparse,
        grid(factor=(1e-5, 1e-4, 1e-3, 1e-4), sparsity=(0.9, 0.9, 0.9, 0.98)),
        "regularizers.HyperSparse",
    ),
    Method("models.ART", art, grid(growth=(1.1, 1.3, 1.3, 1.6), factor=(1e-4, 1e-5, 1e-4, 1e-5))),
    optimized("Proximal", grid(factor=(1e-5, 1e-4, 3e-4, 1e-3))),
    optimized("LOBSTER", grid(factor=(1e-4, 1e-3, 3e-3, 1e-2))),
    optimized("IrrelevantWeightDecay", grid(factor=(1e-4, 1e-3, 3e-3, 1e-2))),
    constrained("SoftThreshold", grid(threshold=(1e-6, 1e-5, 3e-5, 1e-4))),
    constrained("HardThreshold", grid(threshold=(1e-3, 3e-3, 1e-2, 3e-2))),
    constrained("GroupSoftThreshold", grid(threshold=(1e-5, 1e-4, 3e-4, 1e-3))),
    Method("callbacks.IterativePruning", gradual, grid(prunings=(3, 6, 9, 12))),
    Method("callbacks.RelativeImportancePruning", by_importance),
]

PAGE = """
{best}

{table}

{picture}

{protocol}
"""

TASK = Task(
    title="pruning",
    data=data,
    measure=measure,
    measures={"at98": Measure("accuracy at 98 % zeros"), "at90": Measure("accuracy at 90 % zeros")},
    methods=METHODS,
    optimizer=sgd,
    epochs=36,
    batch_size=50,
    page=PAGE,
)
