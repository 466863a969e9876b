"""All comparisons in one table and one picture, for the README: `python -m benchmarks.comparisons --readme`."""

import pathlib

from benchmarks.comparisons._comparison import PLAIN, TASKS, Measure, kept, load, ordered

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURE = "docs/images/comparisons.png"

COLUMNS = {"plain": "0.5", "Keras' best": "#D55E00", "best here": "#0072B2"}

CAPTION = """\
Test data, mean ± standard error over at least five seeds: plain training, the best of what Keras has for the task,
and the best method here. Every method's settings were chosen on validation data by the same number of trials;
small networks on data of scikit-learn. Time is that of the best method here, relative to plain. All methods, and
what follows from them, are on a page per task of the site; `python -m benchmarks.comparisons noisy_labels`
reproduces one."""


def contestants() -> dict[str, tuple[Measure, str, list[dict]]]:
    """For each task its title, first measure and three rows: plain, the best of Keras, the best here."""
    found = {}
    for name in TASKS:
        task, results = load(name), kept(name)
        rows = ordered(task, results)
        plain = next(row for row in rows if row["label"] == PLAIN)
        keras = next(row for row in rows if row["key"] is None and row is not plain)
        ours = next(row for row in rows if row["key"] is not None)
        key, measure = next(iter(task.measures.items()))
        found[task.title] = measure, key, [plain, keras, ours]
    return found


def table() -> str:
    titles = [f"{title}, %" for title in COLUMNS]
    lines = ["| task | | " + " | ".join(titles) + " | time |", "|---|---|--:|--:|--:|--:|"]
    for title, (measure, key, rows) in contestants().items():
        cells = [
            measure.text(*(row["measures"][key][k] for k in ("mean", "error"))) for row in rows
        ]
        cells[1] += f" ({rows[1]['label']})"
        cells[2] += f" (`{rows[2]['label'].split('.', 1)[1]}`)"
        what = measure.title.replace(", %", "") + (
            "" if measure.more_is_better else ", less is better"
        )
        lines.append(f"| {title} | {what} | " + " | ".join(cells) + f" | {rows[2]['time']:.1f}× |")
    return "\n".join(lines)


def draw(path: pathlib.Path) -> None:
    """A row per task, a point per contestant with two standard errors to each side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = contestants()
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.42 * len(found)), layout="constrained")
    for position, (_, key, rows) in enumerate(found.values()):
        for shift, row, (label, color) in zip((-0.15, 0, 0.15), rows, COLUMNS.items()):
            value = row["measures"][key]
            axis.errorbar(
                100 * value["mean"],
                position + shift,
                xerr=200 * value["error"],
                fmt="o",
                color=color,
                markersize=5,
                label=None if position else label,
            )
    names = [
        f"{title}\n{measure.title.replace(', %', '')}{'' if measure.more_is_better else ' (less is better)'}"
        for title, (measure, *_) in found.items()
    ]
    axis.set_yticks(range(len(found)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("%")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def block() -> str:
    """What stands between the markers of README.md."""
    return f"{table()}\n\n{CAPTION}\n\n![The table as points]({PICTURE})"


def fill_readme() -> None:
    """Puts table and picture between the two markers of README.md."""
    begin, end = "<!-- comparisons:start -->", "<!-- comparisons:end -->"
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    if begin not in text or end not in text:
        raise SystemExit(f"README.md lacks the markers {begin} and {end}.")
    draw(ROOT / PICTURE)
    before, rest = text.split(begin, 1)
    readme.write_text(f"{before}{begin}\n{block()}\n{end}{rest.split(end, 1)[1]}", "utf-8")
