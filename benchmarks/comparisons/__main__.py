"""Compares all methods for a task at equal budget: `python -m benchmarks.comparisons noisy_labels`."""

import argparse
import pathlib
import tempfile

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.comparisons._comparison import (
    SEEDS,
    TASKS,
    compare,
    count,
    load,
    rich_table,
    save,
)
from benchmarks.comparisons._summary import fill_readme


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparisons", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"any of {', '.join(TASKS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"trainings per row ({SEEDS})")
    parser.add_argument("--save", type=pathlib.Path, metavar="DIR", help="keep results and picture")
    parser.add_argument("--readme", action="store_true", help="fill README.md from what is kept")
    arguments = parser.parse_args()
    if arguments.readme:
        return fill_readme()
    unknown = sorted(set(arguments.tasks) - set(TASKS))
    if unknown:
        parser.error(f"no such task: {', '.join(unknown)} (there are {', '.join(TASKS)})")

    compile_once()
    console = Console()
    if not arguments.tasks:
        console.print("Tasks, each compared by `python -m benchmarks.comparisons TASK`:")
        for name in TASKS:
            console.print(f"  {name:22s}{load(name).title}")
    for name in arguments.tasks:
        run(name, arguments.seeds, arguments.save, console)


def compile_once():
    """Lets JAX keep its programs: a comparison trains the same few hundreds of times, each in a fresh model."""
    if keras.backend.backend() == "jax":
        import jax

        folder = pathlib.Path(tempfile.gettempdir()) / "keras-regularize-jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def run(name, seeds, folder, console):
    task = load(name)
    columns = (
        TextColumn("{task.description:38.38}"),
        BarColumn(None),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        bar = progress.add_task(name, total=count(task, seeds), completed=-1)

        def report(text):
            progress.update(bar, advance=1, description=text)

        results = compare(task, seeds, report=report)
    console.print(rich_table(task, results))
    console.print(
        f"Mean ± standard error over {seeds} seeds on the {results['backend']} backend. In bold: within\n"
        "two standard errors of the best. Passes and time: of training, relative to plain.",
        style="dim",
    )
    if folder:
        save(name, results, folder)
        console.print(f"Kept: {folder / name}.json and .png")


if __name__ == "__main__":
    main()
