"""What the package adds to the time of `import keras`, in fresh interpreters."""

import os
import statistics
import subprocess
import sys
import tempfile

import keras
from rich.table import Table

BAR = 0.05

CODE = """
import time
begin = time.perf_counter()
import keras
middle = time.perf_counter()
import keras_regularize
print(middle - begin, time.perf_counter() - middle)
"""


def measure(runs=7, on_turn=None):
    """Seconds of `import keras` and of `import keras_regularize` after it, one pair per interpreter."""
    pairs = []
    with tempfile.TemporaryDirectory() as cache:
        # Byte code as an installed package has it, whatever the environment says of writing it.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for index in range(runs + 1):
            if on_turn is not None:
                on_turn(f"interpreter {index + 1} of {runs + 1}")
            command = [sys.executable, "-c", CODE]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            pairs.append([float(seconds) for seconds in done.stdout.split()])
    return pairs[1:]  # The first one writes the byte code.


def table(quick=False, on_turn=None):
    first, second = zip(*measure(2 if quick else 7, on_turn))
    backend = keras.backend.backend()
    result = Table(title=f"{backend}: import time", title_justify="left", title_style="bold")
    for column in ("", "ms (median)", "ms (min)", "bar"):
        result.add_column(column, justify="right" if column else "left")
    result.add_row("keras", *_milliseconds(first), "")
    color = "[green]" if min(second) <= BAR else "[red]"
    cells = [color + cell for cell in _milliseconds(second)]
    result.add_row("keras_regularize, added", *cells, f"≤ {BAR * 1e3:.0f}")
    return result


def _milliseconds(seconds):
    return [f"{value * 1e3:.0f}" for value in (statistics.median(seconds), min(seconds))]
