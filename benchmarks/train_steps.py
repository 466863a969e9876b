"""What a step of `fit` costs with a train-step wrapper, relative to the plain model's."""

import time

import keras
import numpy as np
from keras import layers
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

BATCH = 64
SKIPPED = 3  # Steps before the clock starts: tracing, the start of the input pipeline.

# Forward and backward passes over a batch, as the methods define them. Finding a perturbation needs no gradients
# of the weights, so the backward passes of an attack are cheaper than others.
PASSES = {
    "plain": "1 / 1",
    "wrapper": "1 / 1",
    "SAM": "2 / 2",
    "VAT": "4 / 3",
    "PGD-1": "2 / 2",
    "PGD-3": "4 / 4",
    "PGD-7": "8 / 8",
    "SAM(VAT)": "6 / 5",
}


def bars():
    """The largest acceptable ratios, on a network whose arithmetic dominates."""
    wrapper = 1.08 if keras.backend.backend() == "torch" else 1.02
    return {"wrapper": wrapper, "SAM": 2.05, "PGD-1": 2.0, "PGD-3": 4.0, "PGD-7": 8.0}


def convolutional_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def dense_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((32,)), layers.Dense(64, activation="relu"), layers.Dense(10)]
    )


def pgd(steps):
    return kr.attacks.PGD(epsilon=0.03, step_size=0.01, steps=steps, bounds=None)


METHODS = {
    "plain": lambda net: net,
    "wrapper": kr.models.RegularizedModel,
    "SAM": kr.models.SAM,
    "VAT": lambda net: kr.models.VAT(net, epsilon=1.0),
    "PGD-1": lambda net: kr.models.AdversarialTraining(net, pgd(1)),
    "PGD-3": lambda net: kr.models.AdversarialTraining(net, pgd(3)),
    "PGD-7": lambda net: kr.models.AdversarialTraining(net, pgd(7)),
    "SAM(VAT)": lambda net: kr.models.SAM(kr.models.VAT(net, epsilon=1.0)),
}


class StepClock(keras.callbacks.Callback):
    """Seconds per step of an epoch, without its first steps."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == SKIPPED - 1:
            self._wait(logs)
            self._begin = time.perf_counter()
            self._steps = 0
        elif batch >= SKIPPED:
            self._steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self._wait(logs)
        self.seconds = (time.perf_counter() - self._begin) / self._steps

    def _wait(self, logs):
        float(logs["loss"])  # A number can only be had once the step is done.


def fit_contestant(model, x, y):
    """A function that fits one epoch and returns seconds per step."""
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    clock = StepClock()

    def run():
        model.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False, callbacks=[clock])
        return clock.seconds

    return run


def measure(network=convolutional_network, names=tuple(METHODS), steps=12, rounds=5, on_turn=None):
    """`{name: Timing}` per step for methods by name."""
    generator = np.random.default_rng(0)
    shape = (BATCH * (steps + SKIPPED), *network().input_shape[1:])
    x = generator.normal(size=shape).astype("float32")
    y = generator.integers(0, 10, len(x))
    contestants = {name: fit_contestant(METHODS[name](network()), x, y) for name in names}
    return race(contestants, rounds, on_turn=on_turn)


def table(quick=False, on_turn=None):
    backend = keras.backend.backend()
    steps, rounds = (6, 3) if quick else (12, 5)
    large = measure(steps=steps, rounds=rounds, on_turn=on_turn)
    small_names = ("plain", "wrapper", "SAM", "VAT", "PGD-3")
    small = measure(dense_network, small_names, 10 * steps, rounds, on_turn)
    return Group(
        ratio_table(
            f"{backend}: a step of fit, convolutional network",
            large,
            "plain",
            {"forward / backward": PASSES},
            bars(),
        ),
        ratio_table(
            f"{backend}: a step of fit, tiny dense network",
            small,
            "plain",
            {"forward / backward": PASSES},
        ),
    )
