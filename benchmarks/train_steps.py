"""What a step of `fit` costs with a train-step wrapper, relative to the plain model's."""

import time

import keras
import numpy as np
from keras import layers
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

BATCH = 64
MOST_SAMPLES = 10_000  # Rows of a memory of the training samples.
SKIPPED = 3  # Steps before the clock starts: tracing, the start of the input pipeline.

# Forward and backward passes over a batch, as the methods define them. Finding a perturbation needs no gradients
# of the weights, so the backward passes of an attack are cheaper than others.
PASSES = {
    "plain": "1 / 1",
    "wrapper": "1 / 1",
    "SAM": "2 / 2",
    "ASAM": "2 / 2",
    "GSAM": "2 / 2",
    "AMP(1)": "2 / 2",
    "AWP": "2 / 2",
    "GR forward": "2 / 2",
    "GR exact": "2 / 3",
    "FriendlySAM": "2 / 2",
    "LookSAM(5)": "1.2 / 1.2",
    "MomentumSAM": "1 / 1",
    "Flooding": "1 / 1",
    "IGNITE": "3 / 3",
    "VAT": "4 / 3",
    "PGD-1": "2 / 2",
    "PGD-3": "4 / 4",
    "PGD-7": "8 / 8",
    "ELLE": "5 / 5",
    "GradAlign": "4 / 5",
    "SAM(VAT)": "6 / 5",
    "TRADES(3)": "5 / 5",
    "Free(4)": "4 / 4",
    "Distillation": "2 / 1",
    "ELR": "1 / 1",
    "ELRPlus": "4 / 2",
    "CoTeaching": "2 / 2",
    "GroupDRO": "1 / 1",
    "ART": "1 / 1",
}


def bars():
    """The largest acceptable ratios, on a network whose arithmetic dominates."""
    wrapper = 1.08 if keras.backend.backend() == "torch" else 1.02
    two_passes = ("SAM", "ASAM", "GSAM", "FriendlySAM", "AMP(1)", "AWP", "GR forward")
    return {
        "wrapper": wrapper,
        **dict.fromkeys(two_passes, 2.05),
        "LookSAM(5)": 1.30,
        "MomentumSAM": 1.08,
        "PGD-1": 2.0,
        "PGD-3": 4.0,
        "PGD-7": 8.0,
        "TRADES(3)": 5.0,
    }


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
    "ASAM": kr.models.ASAM,
    "GSAM": kr.models.GSAM,
    "AMP(1)": kr.models.AMP,
    "AWP": kr.models.AWP,
    "GR forward": kr.models.GradientRegularization,
    "GR exact": lambda net: kr.models.GradientRegularization(net, scheme="exact"),
    "FriendlySAM": kr.models.FriendlySAM,
    "LookSAM(5)": kr.models.LookSAM,
    "MomentumSAM": kr.models.MomentumSAM,
    "Flooding": lambda net: kr.models.Flooding(net, level=0.1),
    "IGNITE": kr.models.IGNITE,
    "VAT": lambda net: kr.models.VAT(net, epsilon=1.0),
    "PGD-1": lambda net: kr.models.AdversarialTraining(net, pgd(1)),
    "PGD-3": lambda net: kr.models.AdversarialTraining(net, pgd(3)),
    "PGD-7": lambda net: kr.models.AdversarialTraining(net, pgd(7)),
    "ELLE": lambda net: kr.models.ELLE(net, 0.03),
    "GradAlign": lambda net: kr.models.GradAlign(net, kr.attacks.FGSM(0.03, bounds=None)),
    "SAM(VAT)": lambda net: kr.models.SAM(kr.models.VAT(net, epsilon=1.0)),
    "TRADES(3)": lambda net: kr.models.TRADES(net, pgd(3)),
    "Free(4)": lambda net: kr.models.FreeAdversarialTraining(net, 0.03, 4, batch_size=BATCH),
    "Distillation": lambda net: kr.models.Distillation(net, keras.models.clone_model(net)),
    "ELR": lambda net: kr.models.ELR(net, MOST_SAMPLES, 10),
    "ELRPlus": lambda net: kr.models.ELRPlus(
        net, keras.models.clone_model(net), MOST_SAMPLES, num_classes=10
    ),
    "CoTeaching": lambda net: kr.models.CoTeaching(net, keras.models.clone_model(net)),
    "GroupDRO": lambda net: kr.models.GroupDRO(net, 4),
    "ART": kr.models.ART,
}

# What `y` holds beside the label.
COLUMNS = {
    "ELR": {"index": np.arange},
    "ELRPlus": {"index": np.arange},
    "GroupDRO": {"group": lambda samples: np.arange(samples) % 4},
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


def fit_contestant(model, x, y, loss=None):
    """A function that fits one epoch and returns seconds per step."""
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    clock = StepClock()

    def run():
        model.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False, callbacks=[clock])
        return clock.seconds

    return run


def data(network, steps):
    """Random inputs for a network and class ids, for an epoch of `steps` that are timed."""
    generator = np.random.default_rng(0)
    shape = (BATCH * (steps + SKIPPED), *network().input_shape[1:])
    x = generator.normal(size=shape).astype("float32")
    return x, generator.integers(0, 10, len(x))


def measure(network=convolutional_network, names=tuple(METHODS), steps=10, rounds=5, on_turn=None):
    """`{name: Timing}` per step for methods by name."""
    x, y = data(network, steps)

    def targets(name):
        columns = {column: make(len(x)) for column, make in COLUMNS.get(name, {}).items()}
        return {"label": y, **columns} if columns else y

    contestants = {
        name: fit_contestant(METHODS[name](network()), x, targets(name)) for name in names
    }
    return race(contestants, rounds, on_turn=on_turn)


def diffusion_network():
    """Of noisy images and time steps, of the width of small diffusion models."""
    keras.utils.set_random_seed(0)
    x, t = keras.Input((32, 32, 3)), keras.Input((), dtype="int32")
    hidden = layers.Conv2D(32, 3, padding="same")(x)
    hidden = hidden + layers.Reshape((1, 1, 32))(layers.Embedding(1000, 32)(t))
    for _ in range(3):
        moved = layers.Conv2D(32, 3, padding="same")(keras.ops.silu(hidden))
        hidden = hidden + moved
    return keras.Model([x, t], layers.Conv2D(3, 3, padding="same")(keras.ops.silu(hidden)))


def measure_diffusion(steps=10, rounds=5, on_turn=None):
    """A step of a diffusion model, and one of its network on noisy images that are there already."""
    generator = np.random.default_rng(0)
    count = BATCH * (steps + SKIPPED)
    x, noisy = generator.normal(size=(2, count, 32, 32, 3)).astype("float32")
    times = generator.integers(0, 1000, count).astype("int32")
    diffusion = kr.models.DenoisingDiffusion(diffusion_network())
    contestants = {
        "network": fit_contestant(diffusion_network(), [noisy, times], x, "mse"),
        "DenoisingDiffusion": fit_contestant(diffusion, x, None, "mse"),
    }
    return race(contestants, rounds, on_turn=on_turn)


def table(quick=False, on_turn=None, only=None):
    """The tables; `only` names rows to measure beside the first."""
    backend = keras.backend.backend()
    steps, rounds = (5, 3) if quick else (10, 5)  # Multiples of the period of LookSAM.
    names = tuple(METHODS)
    small_names = ("plain", "wrapper", "SAM", "LookSAM(5)", "MomentumSAM", "VAT", "PGD-3")
    if only:
        names = small_names = ("plain", *(name for name in METHODS if name in only))
    large = measure(names=names, steps=steps, rounds=rounds, on_turn=on_turn)
    small = measure(dense_network, small_names, 10 * steps, rounds, on_turn)
    diffusion = measure_diffusion(steps, rounds, on_turn)
    return Group(
        ratio_table(
            f"{backend}: a step of fit, diffusion",
            diffusion,
            "network",
            bars={"DenoisingDiffusion": 1.03},
        ),
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
