"""What the comparisons share: the search of settings, seeds, standard errors, tables, the picture and the page."""

import dataclasses
import importlib
import importlib.metadata
import json
import math
import pathlib
import statistics
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from rich import box
from rich.table import Table

RESULTS = pathlib.Path(__file__).resolve().parent / "results"

#: In the order in which they are listed.
TASKS = (
    "noisy_labels",
    "few_labels",
    "unequal_classes",
    "calibration",
    "prediction_intervals",
    "robustness",
    "corruptions",
    "group_shift",
    "flatness_small_data",
    "pruning",
    "quantization",
    "continual_learning",
)

#: Trainings are told from each other by their seed alone: settings are chosen on other ones than are reported.
SEEDS = 8
SEARCH_SEEDS = range(1000, 1002)
#: Settings of each method that has any to choose.
SETTINGS = 4

PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class Data:
    """What one training and its measurements see; `more` is what a task needs beyond that."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number between 0 and 1 (`percent`) or any other, of which more or less is better."""

    title: str
    more_is_better: bool = True
    percent: bool = True

    def text(self, mean: float, error: float) -> str:
        if self.percent:
            return f"{100 * mean:.1f} ± {100 * error:.1f}"
        return f"{mean:.2f} ± {error:.2f}"


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train: `train(run, **setting)` returns the model to be measured.

    `key` is the public name, `None` for what Keras has itself. `passes` are forward-backward passes over the
    training data, as a multiple of the plain training's.
    """

    key: str | None
    train: Callable[..., Any]
    settings: Sequence[Mapping[str, Any]] = ({},)
    label: str = ""
    passes: float = 1

    @property
    def name(self) -> str:
        """What tells the method from the others of its task."""
        return self.label or str(self.key)


@dataclasses.dataclass(frozen=True)
class Task:
    """Data, methods and measures, of which the first orders the table and chooses the settings on validation data.

    `data(generator)` draws the data of one seed, `measure(model, data, part)` gives `{measure: number}` on one of
    its parts. `page` is markdown with fields (see `page`), and `claims` are the orders that its text relies on:
    `(better, worse, measure)`, names of methods, by more than two standard errors of their difference.
    """

    title: str
    data: Callable[[np.random.Generator], Data]
    measure: Callable[[Any, Data, str], dict[str, float]]
    measures: Mapping[str, Measure]
    methods: Sequence[Method]
    optimizer: Callable[[], Any]
    epochs: int
    batch_size: int
    page: str
    claims: Sequence[tuple[str, str, str]] = ()
    chosen_by: str = ""

    @property
    def criterion(self) -> str:
        return self.chosen_by or next(iter(self.measures))


class Run:
    """One training: its data and seed, how to fit, and how long that took."""

    def __init__(self, task: Task, data: Data, seed: int, epochs: int):
        self.task, self.data, self.seed, self.epochs = task, data, seed, epochs
        self.x, self.y = data.train
        self.seconds = 0.0

    def train(
        self, model, loss=None, optimizer=None, x=None, y=None, epochs=None, callbacks=(), **options
    ):
        """Compiles a model with what the task has where nothing else is given, fits it, and returns it."""
        loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer or self.task.optimizer(), loss)
        return self.fit(model, x, y, epochs, callbacks, **options)

    def fit(self, model, x=None, y=None, epochs=None, callbacks=(), **options):
        """Fits a compiled model further."""
        clock = Clock()
        options = {"batch_size": self.task.batch_size, "verbose": 0} | options
        model.fit(
            self.x if x is None else x,
            self.y if y is None else y,
            epochs=self.epochs if epochs is None else max(round(epochs), 1),
            callbacks=[clock, *callbacks],
            **options,
        )
        self.seconds += clock.seconds
        return model


class Clock(keras.callbacks.Callback):
    """Seconds of all epochs, if each took as long as the fastest: the first one compiles, others are disturbed."""

    def __init__(self):
        super().__init__()
        self._epochs, self._fastest = 0, math.inf

    @property
    def seconds(self) -> float:
        return self._epochs * self._fastest

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._epochs += 1
        self._fastest = min(self._fastest, time.perf_counter() - self._begin)


def load(name: str) -> Task:
    if name not in TASKS:
        raise ValueError(f"expected one of {', '.join(TASKS)}; received {name!r}")
    return importlib.import_module(f"benchmarks.comparisons.{name}").TASK


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Settings from values of the same place: `grid(a=(1, 2), b=(3, 4))` is `[{a: 1, b: 3}, {a: 2, b: 4}]`."""
    return [dict(zip(values, row)) for row in zip(*values.values(), strict=True)]


def once(task, method, setting, seed, part, epochs):
    """`({measure: number}, seconds)` of one training, measured on a part of the data."""
    data = task.data(np.random.default_rng(seed))
    run = Run(task, data, seed, epochs)
    keras.utils.set_random_seed(seed)
    model = method.train(run, **setting)
    measured = task.measure(model, data, part)
    return {name: float(value) for name, value in measured.items()}, run.seconds


def compare(task, seeds=SEEDS, search_seeds=SEARCH_SEEDS, epochs=None, methods=None, report=None):
    """The results, as they are kept: each method searched by the same budget, then trained on fresh seeds."""
    methods, epochs = methods or task.methods, epochs or task.epochs
    report = report or (lambda text: None)
    sign = 1 if task.measures[task.criterion].more_is_better else -1

    def score(method, setting):
        scores = []
        for seed in search_seeds:
            report(f"{method.name}: settings")
            measured, _ = once(task, method, setting, seed, "validation", epochs)
            scores.append(sign * measured[task.criterion])
        return statistics.mean(s if math.isfinite(s) else -math.inf for s in scores)

    chosen = [
        max(method.settings, key=lambda setting: score(method, setting))
        if len(method.settings) > 1
        else method.settings[0]
        for method in methods
    ]
    runs = [[] for _ in methods]
    # Methods take turns, so that whatever else the machine does slows all of them alike.
    for seed in range(seeds):
        for method, setting, own in zip(methods, chosen, runs):
            report(f"{method.name}: seed {seed}")
            own.append(once(task, method, setting, seed, "test", epochs))
    rows = [
        {
            "key": method.key,
            "label": method.name,
            "setting": dict(setting),
            "measures": {m: summary([measured[m] for measured, _ in own]) for m in task.measures},
            "passes": round(method.passes, 2),
            "seconds": min(seconds for _, seconds in own),
        }
        for method, setting, own in zip(methods, chosen, runs)
    ]
    plain = next((row["seconds"] for row in rows if row["label"] == PLAIN), rows[0]["seconds"])
    for row in rows:
        row["time"] = round(row.pop("seconds") / plain, 2)
    return {
        "backend": keras.backend.backend(),
        "versions": versions(),
        "seeds": list(range(seeds)),
        "search_seeds": list(search_seeds),
        "epochs": epochs,
        "batch_size": task.batch_size,
        "rows": rows,
    }


def count(task: Task, seeds: int = SEEDS) -> int:
    """How many trainings `compare` makes."""
    searched = sum(len(m.settings) for m in task.methods if len(m.settings) > 1)
    return searched * len(SEARCH_SEEDS) + seeds * len(task.methods)


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean and its standard error, with the value of each seed."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    values = [round(value, 5) for value in values]
    return {"mean": round(statistics.mean(values), 5), "error": round(error, 5), "values": values}


def difference(row: Mapping, other: Mapping, measure: str) -> tuple[float, float]:
    """Mean and standard error of the difference of two rows, seed by seed: both saw the same data."""
    pairs = zip(row["measures"][measure]["values"], other["measures"][measure]["values"])
    found = summary([a - b for a, b in pairs])
    return found["mean"], found["error"]


def versions() -> dict[str, str]:
    packages = ("keras", keras.backend.backend(), "numpy", "scikit-learn")
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = importlib.metadata.version(f"{package}-cpu")
    return installed


def ordered(task: Task, results: Mapping) -> list[dict]:
    """The rows, best first."""
    first = next(iter(task.measures))
    sign = -1 if task.measures[first].more_is_better else 1
    return sorted(results["rows"], key=lambda row: sign * row["measures"][first]["mean"])


def as_good(task: Task, results: Mapping) -> list[str]:
    """Names of the best method and of those no more than two standard errors of the difference from it."""
    first = next(iter(task.measures))
    best, *others = ordered(task, results)
    names = [best["label"]]
    for row in others:
        mean, error = difference(row, best, first)
        if abs(mean) <= 2 * error:
            names.append(row["label"])
    return names


def setting_text(row: Mapping) -> str:
    return ", ".join(f"{name} {value}" for name, value in row["setting"].items())


def measure_texts(task: Task, row: Mapping) -> list[str]:
    return [
        measure.text(row["measures"][name]["mean"], row["measures"][name]["error"])
        for name, measure in task.measures.items()
    ]


def rich_table(task: Task, results: Mapping) -> Table:
    """The table for a terminal of 80 columns."""
    options = {"box": box.SIMPLE_HEAD, "show_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=task.title, title_justify="left", title_style="bold", **options)
    table.add_column("", no_wrap=True, max_width=35)
    for measure in task.measures.values():
        table.add_column(measure.title, justify="right", max_width=11)
    table.add_column("passes", justify="right")
    table.add_column("time", justify="right")
    best = as_good(task, results)
    for row in ordered(task, results):
        texts = measure_texts(task, row)
        if row["label"] in best:
            texts[0] = f"[bold]{texts[0]}"
        name = row["label"].split(".")[-1] if row["key"] else f"Keras: {row['label']}"
        texts = [text.replace(" ± ", "±") for text in texts]
        table.add_row(name, *texts, f"{row['passes']:g}", f"{row['time']:.1f}×")
    return table


def markdown_table(task: Task, results: Mapping) -> str:
    headers = ["method", *(m.title for m in task.measures.values()), "passes", "time", "setting"]
    lines = ["| " + " | ".join(headers) + " |", "|---|" + "--:|" * (len(headers) - 2) + "---|"]
    best = as_good(task, results)
    for row in ordered(task, results):
        texts = measure_texts(task, row)
        if row["label"] in best:
            texts[0] = f"**{texts[0]}**"
        cells = [link(row), *texts, f"{row['passes']:g}", f"{row['time']:.1f}×", setting_text(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def link(row: Mapping) -> str:
    """The method's name as the site links it: `kr.losses.MaxSup`, and what a label adds to it."""
    if row["key"] is None:
        return f"Keras: {row['label']}"
    rest = row["label"].removeprefix(row["key"])
    return f"`kr.{row['key']}`{rest}"


def draw(task: Task, results: Mapping, path: pathlib.Path) -> None:
    """A panel per measure, a row per method: the mean and two standard errors to each side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = ordered(task, results)[::-1]
    # Narrow and in large letters: it is looked at on phones too.
    names = [row["label"].split(".", 1)[-1] if row["key"] else row["label"] for row in rows]
    height = 0.9 + 0.2 * len(rows)
    panels = len(task.measures)
    figure, axes = plt.subplots(
        1, panels, figsize=(4.6, height), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (name, measure) in zip(axes[0], task.measures.items()):
        for position, row in enumerate(rows):
            found, scale = row["measures"][name], 100 if measure.percent else 1
            axis.errorbar(
                scale * found["mean"],
                position,
                xerr=2 * scale * found["error"],
                fmt="o" if row["key"] else "s",
                # Blue and vermilion of Okabe and Ito; the form says the same.
                color="#0072B2" if row["key"] else "#D55E00",
                markersize=4,
                elinewidth=1.2,
            )
        title = textwrap.fill(measure.title, 14 if panels < 5 else 10, break_long_words=False)
        axis.set_title(title, fontsize=9 if panels < 5 else 8)
        axis.tick_params(labelsize=8)
        axis.tick_params(axis="y", length=0)
        axis.locator_params(axis="x", nbins=4 if panels < 3 else 3)
        if panels > 4:  # Whole numbers, which are short.
            axis.locator_params(axis="x", nbins=2, steps=[1, 2, 4, 5, 10])
        axis.grid(alpha=0.3)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].set_yticks(range(len(rows)), names)
    for label, row in zip(axes[0, 0].get_yticklabels(), rows):
        label.set_color("#0072B2" if row["key"] else "#B34700")
    axes[0, 0].set_ylim(-0.7, len(rows) - 0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=170, facecolor="white")
    plt.close(figure)


def save(name: str, results: Mapping, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    # The value of each seed on one line.
    parts = text.split('"values": [')
    for i, part in enumerate(parts[1:], 1):
        values, rest = part.split("]", 1)
        parts[i] = " ".join(values.split()) + "]" + rest
    (folder / f"{name}.json").write_text('"values": ['.join(parts) + "\n", "utf-8")
    draw(load(name), results, folder / f"{name}.png")


def kept(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


class Field:
    """A row of the results in a page: `{rows[plain].accuracy}` is mean and error; `.time` and `.setting`."""

    def __init__(self, task: Task, row: Mapping):
        texts = dict(zip(task.measures, measure_texts(task, row)))
        for name, text in texts.items():
            setattr(self, name, text)
        self.time, self.setting = f"{row['time']:.1f}", setting_text(row)


def page(name: str) -> str:
    """The page of a task, in markdown, filled from the results that are kept.

    Fields of `Task.page`: `{rows[NAME].MEASURE}`, `{best}` (the methods that are as good as the best), `{table}`,
    `{picture}` and `{protocol}`.
    """
    task, results = load(name), kept(name)
    links = {row["label"]: link(row) for row in results["rows"]}
    body = task.page.format(
        rows={row["label"]: Field(task, row) for row in results["rows"]},
        best=", ".join(links[label] for label in as_good(task, results)),
        table=markdown_table(task, results),
        picture=f"![{task.title}: every method's measures with their errors](images/{name}.png)",
        protocol=protocol(name, task, results),
    )
    return f"# Which one: {task.title}\n\n{body.strip()}\n"


def protocol(name: str, task: Task, results: Mapping) -> str:
    """How the table was made, and how to make it again."""
    used = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    criterion = task.measures[task.criterion]
    return f"""\
Mean ± standard error over {len(results["seeds"])} seeds, each with a split of the data and initial weights of its
own that all methods share; the picture shows two standard errors. In bold: no more than two standard errors of the
difference, seed by seed, from the best. Training takes {results["epochs"]} epochs in batches of
{results["batch_size"]}. Of each method with something to choose, {SETTINGS} settings were tried on
{len(results["search_seeds"])} other seeds, and the one with the
{"highest" if criterion.more_is_better else "lowest"} {criterion.title.split(",")[0]} on validation data was taken;
the table is of test data.

*Passes* are forward-backward passes over the training data, relative to plain training; one back to the inputs
alone counts as much. *Time* is what the epochs took in the fastest of the runs, relative to plain. In a network as
small as this one much of it is overhead: in a large one expect the passes.

```shell
python -m benchmarks.comparisons {name}
```

Made on the {results["backend"]} backend, with {used}.
"""
