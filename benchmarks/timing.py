"""Interleaved timing: contestants take turns, so that whatever else the machine does slows all of them alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one contestant: the median and the fastest round."""

    median: float
    minimum: float


def race(
    contestants: Mapping[str, Callable[[], float | None]],
    rounds: int = 9,
    repeats: int = 1,
    warmups: int = 1,
    on_turn: Callable[[str], None] | None = None,
) -> dict[str, Timing]:
    """Lets each contestant run once a round, in turn.

    A contestant is called without arguments and must not return before its work is done. It returns its
    own measurement in seconds, or `None` to be timed from outside.
    """
    for _ in range(warmups):
        for name, run in contestants.items():
            _announce(on_turn, f"warming up {name}")
            run()
    seconds = {name: [] for name in contestants}
    for index in range(rounds):
        for name, run in contestants.items():
            _announce(on_turn, f"round {index + 1} of {rounds}: {name}")
            begin = time.perf_counter()
            for _ in range(repeats):
                own = run()
            elapsed = (time.perf_counter() - begin) / repeats
            seconds[name].append(elapsed if own is None else own)
    return {name: Timing(statistics.median(s), min(s)) for name, s in seconds.items()}


def ratio_table(
    title: str,
    timings: Mapping[str, Timing],
    baseline: str,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    bars: Mapping[str, float] | None = None,
) -> Table:
    """A table of milliseconds and ratios to the baseline, and of bars that the ratio of minima should keep.

    `columns` are further ones, `{"passes": {"SAM": "2 / 2"}}`, put beside the names.
    """
    columns, bars = columns or {}, bars or {}
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for column in ("ms", "ratio", "ratio (min)", *(("bar",) if bars else ())):
        table.add_column(column, justify="right")
    reference = timings[baseline]
    for name, timing in timings.items():
        ratio = timing.minimum / reference.minimum
        cells = [entries.get(name, "") for entries in columns.values()]
        cells.append(f"{timing.minimum * 1e3:.2f}")
        cells.append(f"{timing.median / reference.median:.2f}")
        bar = bars.get(name)
        color = "" if bar is None else "[green]" if ratio <= bar else "[red]"
        cells.append(f"{color}{ratio:.2f}")
        if bars:
            cells.append("" if bar is None else f"≤ {bar:.2f}")
        table.add_row(name, *cells)
    return table


def _announce(on_turn, text):
    if on_turn is not None:
        on_turn(text)
