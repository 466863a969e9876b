"""What regularization buys, on scikit-learn's digits: `python -m benchmarks.demo`.

Trains one small network plainly and with methods of the package, in three settings where these are meant to
help, and shows accuracy, accuracy under attack, calibration and cost. Every number is of this run.
"""

import argparse
import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.analysis import robust_accuracy

BATCH = 50
TRAINING = 1000
LABELLED = 50
EPSILON = 0.1

PLAIN = "plain"
MEASURES = ("accuracy", "under PGD", "ECE", "time")
HEADERS = ("accuracy, %", "under PGD, %", "ECE, %", "time")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Training data, how long to train, and the methods to compare: functions that compile a network."""

    title: str
    data: Callable
    epochs: int
    methods: dict[str, Callable]


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def pgd(steps, seed=None):
    return kr.attacks.PGD(epsilon=EPSILON, step_size=0.25 * EPSILON, steps=steps, seed=seed)


def with_adam(wrap=lambda net: net, loss=crossentropy, learning_rate=1e-3):
    def make():
        model = wrap(network())
        model.compile(keras.optimizers.Adam(learning_rate), loss())
        return model

    return make


def with_sgd(wrap=lambda net: net):
    def make():
        model = wrap(network())
        model.compile(keras.optimizers.SGD(0.02, momentum=0.9), crossentropy())
        return model

    return make


def all_labels(x, y, generator):
    return {}, (x, y)


def noisy_labels(x, y, generator):
    random = generator.random(len(y)) < 0.5
    return {}, (x, np.where(random, generator.integers(0, 10, len(y)), y))


def few_labels(x, y, generator):
    # The plain model sees the labelled rows as often as to make as many steps.
    rows = np.arange(TRAINING) % LABELLED
    return {PLAIN: (x[rows], y[rows])}, (x, np.where(np.arange(TRAINING) < LABELLED, y, -1))


SETTINGS = (
    Setting(
        "all labels",
        all_labels,
        30,
        {
            PLAIN: with_adam(),
            "MaxSup": with_adam(loss=lambda: kr.losses.MaxSup(0.02)),
            "AdversarialTraining(PGD)": with_adam(
                lambda net: kr.models.AdversarialTraining(net, pgd(5))
            ),
        },
    ),
    Setting(
        "half the labels random",
        noisy_labels,
        40,
        {PLAIN: with_sgd(), "SAM": with_sgd(lambda net: kr.models.SAM(net, rho=0.15))},
    ),
    Setting(
        f"{LABELLED} labels",
        few_labels,
        30,
        {
            PLAIN: with_adam(learning_rate=3e-3),
            "SAM(VAT)": with_adam(
                lambda net: kr.models.SAM(kr.models.VAT(net, epsilon=0.5), rho=0.05),
                learning_rate=3e-3,
            ),
        },
    ),
)


class EpochClock(keras.callbacks.Callback):
    """Seconds of the fastest epoch after the first, which compiles; and progress."""

    def __init__(self, on_epoch):
        super().__init__()
        self.seconds = np.inf
        self._on_epoch = on_epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch > 0:
            self.seconds = min(self.seconds, time.perf_counter() - self._begin)
        self._on_epoch()


def digits(generator):
    """`(x, y), (x, y)` for training and test, in random order, pixels between 0 and 1."""
    x, y = load_digits(return_X_y=True)
    order = generator.permutation(len(y))
    x, y = (x[order] / 16).reshape(-1, 8, 8, 1).astype("float32"), y[order]
    return (x[:TRAINING], y[:TRAINING]), (x[TRAINING:], y[TRAINING:])


def train(setting, name, seed, epochs, on_epoch=lambda: None):
    """`{measure: number}` of one training, `time` in seconds per epoch."""
    generator = np.random.default_rng(seed)
    training, (x, y) = digits(generator)
    own, common = setting.data(*training, generator)
    keras.utils.set_random_seed(seed)
    model = setting.methods[name]()
    clock = EpochClock(on_epoch)
    model.fit(*own.get(name, common), BATCH, epochs, verbose=0, callbacks=[clock])

    logits = model.predict(x, batch_size=len(x), verbose=0)
    calibration = kr.metrics.ExpectedCalibrationError(from_logits=True)
    calibration.update_state(y, logits)
    return {
        "accuracy": float(np.mean(np.argmax(logits, axis=-1) == y)),
        "under PGD": robust_accuracy(model, x, y, pgd(10, seed), batch_size=len(x)),
        "ECE": float(calibration.result()),
        "time": clock.seconds,
    }


def compare(seeds, epochs=None, progress=None):
    """`{(setting, method): {measure: one number per seed}}`; `epochs` overrides the settings' own."""
    runs = [(setting, name) for setting in SETTINGS for name in setting.methods]
    total = len(seeds) * sum(epochs or setting.epochs for setting, _ in runs)
    task = progress.add_task("", total=total) if progress else None

    def on_epoch():
        if progress:
            progress.advance(task)

    results = {(setting.title, name): {m: [] for m in MEASURES} for setting, name in runs}
    for seed in seeds:
        for setting, name in runs:
            if progress:
                progress.update(task, description=f"{setting.title}: {name}, seed {seed}")
            measured = train(setting, name, seed, epochs or setting.epochs, on_epoch)
            for measure, value in measured.items():
                results[setting.title, name][measure].append(value)
    for setting, name in runs:
        # Of the fastest epochs, since the machine may be busy with other things too.
        plain = results[setting.title, PLAIN]["time"]
        if name != PLAIN:
            own = results[setting.title, name]
            own["time"] = [min(own["time"]) / min(plain)]
    for setting in SETTINGS:
        results[setting.title, PLAIN]["time"] = [1.0]
    return results


def cells(measured):
    """Texts of the measures: mean and half the range over seeds."""
    texts = []
    for measure in MEASURES:
        values = measured[measure]
        if measure == "time":
            texts.append(f"{values[0]:.1f}×")
            continue
        mean, spread = statistics.mean(values), (max(values) - min(values)) / 2
        texts.append(f"{100 * mean:.1f} ± {100 * spread:.1f}")
    return texts


def rich_table(results, seeds):
    table = Table(title=_title(seeds), title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for header in HEADERS:
        table.add_column(header, justify="right", no_wrap=True)
    for setting in SETTINGS:
        table.add_row(f"[bold]{setting.title}")
        for name in setting.methods:
            table.add_row(f"  {name}", *cells(results[setting.title, name]))
        table.add_section()
    return table


def caption(seeds):
    return (
        f"Mean ± half the range over {len(seeds)} seeds, {keras.backend.backend()} backend. Under PGD: accuracy "
        f"when every pixel may move by {EPSILON} (range 0 to 1, 10 steps). ECE: expected calibration error, lower "
        "is better; a model that resists random labels is rightly unsure. Time: per epoch, relative to plain."
    )


def draw(results, seeds, path):
    """One panel per measure, one row per training; points are seeds, bars their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(MEASURES), figsize=(11, 3.6), sharey=True)
    positions, labels, position = {}, [], 0.0
    for setting in SETTINGS:
        for name in setting.methods:
            positions[setting.title, name] = position
            labels.append((position, name))
            position += 1
        position += 0.9
    names = {
        "accuracy": "accuracy",
        "under PGD": "accuracy under PGD",
        "ECE": "calibration error\n(lower is better)",
        "time": "time per epoch,\nrelative to plain",
    }
    for axis, measure in zip(axes, MEASURES):
        for key, measured in results.items():
            color = "0.6" if key[1] == PLAIN else "tab:blue"
            values = measured[measure]
            axis.barh(positions[key], statistics.mean(values), 0.7, color=color, alpha=0.55)
            axis.plot(values, [positions[key]] * len(values), ".", color="black", markersize=4)
        axis.set_title(names[measure], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    for axis in axes[:2]:
        axis.set_xlim(0, 1)
    axes[0].set_yticks([p for p, _ in labels], [name for _, name in labels])
    axes[0].invert_yaxis()
    for setting in SETTINGS:
        axes[0].annotate(
            setting.title,
            (0, positions[setting.title, PLAIN] - 0.75),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontweight="bold",
            fontsize=9,
        )
    figure.suptitle(_title(seeds), fontsize=11, x=0.01, ha="left")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _title(seeds):
    return f"A small convolutional network on 1000 digits ({keras.backend.backend()})"


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings per row (3)")
    parser.add_argument("--epochs", type=int, help="instead of each setting's own")
    parser.add_argument("--save", type=pathlib.Path, default=pathlib.Path("demo"), metavar="DIR")
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)

    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        results = compare(seeds, arguments.epochs, progress)
    console.print(rich_table(results, seeds))
    console.print(caption(seeds), style="dim")
    draw(results, seeds, arguments.save / "results.png")
    console.print(f"Picture: {arguments.save / 'results.png'}")


if __name__ == "__main__":
    main()
