"""A line that says how far a long analysis is, in terminals and notebooks."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(steps: Iterable[T], name: str, total: int | None = None) -> Iterator[T]:
    """The steps one by one; from the first second on a line on the standard error output counts them."""
    shows = sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    begin = last = time.monotonic()
    shown, of = False, f"/{total}" if total else ""
    try:
        for i, step in enumerate(steps):
            now = time.monotonic()
            if shows and now - begin > 1.0 and now - last > 0.2:
                sys.stderr.write(f"\r{name}: {i}{of}, {now - begin:.0f} s ")
                sys.stderr.flush()
                last, shown = now, True
            yield step
    finally:
        if shown:
            sys.stderr.write("\n")
