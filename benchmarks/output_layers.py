"""What a step of training costs with many classes: a factored output layer against a dense one with softmax."""

import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
from keras import layers
from rich.table import Table

import keras_regularize as kr
from benchmarks.timing import race
from benchmarks.train_steps import BATCH, SKIPPED, StepClock

FEATURES = 128
CLASSES = (1_000, 10_000, 100_000)


def backbone():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((32,)), layers.Dense(FEATURES, activation="relu")])


def factored(classes):
    model = kr.models.FactoredSphericalClassifier(backbone(), classes, learning_rate=0.01)
    model.compile("sgd")
    return model


def dense(classes):
    model = keras.Sequential([backbone(), layers.Dense(classes)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


CONTESTANTS = {"factored": factored, "dense": dense}


def contestant(name, classes, steps):
    """A function that fits one epoch and returns seconds per step."""
    model, clock = CONTESTANTS[name](classes), StepClock()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH * (steps + SKIPPED), 32)).astype("float32")
    y = generator.integers(0, classes, len(x))

    def run():
        model.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False, callbacks=[clock])
        return clock.seconds

    return run


def peak_memory(name, classes):
    """Largest resident memory, in MB, of a process that trains a few steps; on Linux only."""
    command = [sys.executable, "-m", "benchmarks.output_layers", name, str(classes)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def table(quick=False, on_turn=None):
    steps, rounds = (8, 2) if quick else (100, 3)
    result = Table(
        "classes",
        "factored, ms",
        "dense, ms",
        "dense / factored",
        "factored, MB",
        "dense, MB",
        title=f"{keras.backend.backend()}: a step of fit with {FEATURES} features, batch {BATCH}",
    )
    for classes in CLASSES:
        # Steps enough for the factors to be multiplied out once, as often as in long training.
        contestants = {
            "factored": contestant("factored", classes, steps),
            "dense": contestant("dense", classes, 8),
        }
        times = race(contestants, rounds, on_turn=on_turn)
        milliseconds = {name: 1e3 * timing.minimum for name, timing in times.items()}
        memory = {name: peak_memory(name, classes) for name in contestants}
        result.add_row(
            f"{classes:,}",
            f"{milliseconds['factored']:.2f}",
            f"{milliseconds['dense']:.1f}",
            f"{milliseconds['dense'] / milliseconds['factored']:.0f}",
            f"{memory['factored']:.0f}",
            f"{memory['dense']:.0f}",
        )
    return result


if __name__ == "__main__":
    contestant(sys.argv[1], int(sys.argv[2]), 2)()
    # Not `getrusage`, whose maximum a process inherits from the one that started it.
    status = pathlib.Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024)
