"""Which tests a backend runs when `make test` divides the suite among the three (`pytest --share`).

- All cases of a test run on PyTorch, where a case takes a tenth of what it takes on the others. These take samples
  of a selection in which every value of every parameter occurs: TensorFlow a quarter, and JAX, where most of the
  time is compilation, an eighth.
- `everywhere` marks what no backend may leave out: golden cases, the contract of every symbol, derivatives, the
  train step, and parameters that are about a backend. Of a contract TensorFlow and JAX run the checks of what a
  backend computes and a quarter of the others, a different one for each symbol.
- `rotating` marks examples, guides and experiments that show what a method is good for, whose numbers are pinned
  elsewhere: each runs on one backend.
- `once` marks what does not depend on the backend (in a module so marked, but for what is `rotating`).

Which case falls to which backend depends on the names of the cases alone. Without `--share` everything runs.
"""

import zlib

BACKENDS = ("tensorflow", "jax", "torch")
#: What a backend takes of the selected cases, counted off by eight.
EIGHTHS = {"tensorflow": (0, 4), "jax": (2,)}
#: The checks of a contract that are about what a backend computes. What XLA makes of a step, JAX shows.
COMPUTED = {"finite", "fit", "gradient", "half precision", "unknown batch"}
COMPUTED_BY = {"tensorflow": COMPUTED, "jax": COMPUTED | {"jit"}}


def share(items, backend):
    """The set of those test items that fall to a backend."""
    tests = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return {case for cases in tests.values() for case in of_one_test(cases, backend)}


def of_one_test(cases, backend):
    """Those cases of a test that fall to a backend."""
    marks = {mark.name for mark in cases[0].iter_markers()}
    if "rotating" in marks:
        return [case for case in cases if BACKENDS[digest(case) % 3] == backend]
    if "once" in marks:
        return cases if backend == "torch" else []
    if "everywhere" in marks or backend == "torch":
        return cases
    selection = covering(cases)
    first = digest(selection[0])
    return [case for i, case in enumerate(selection) if (first + i) % 8 in EIGHTHS[backend]]


def checks_left_out(symbol, checks, backend):
    """Those checks of a symbol's contract that a backend leaves to PyTorch."""
    if backend == "torch":
        return set()
    others = [check for check in checks if check not in COMPUTED_BY[backend]]
    first = zlib.crc32(f"{backend} {symbol}".encode())
    return {check for i, check in enumerate(others) if (first + i) % 4}


def covering(cases):
    """Cases in which every value of every parameter occurs."""
    selection, seen = [], set()
    for case in sorted(cases, key=digest):
        parameters = case.callspec.params if hasattr(case, "callspec") else {}
        values = {(name, repr(value)) for name, value in parameters.items()}
        if not selection or values - seen:
            selection.append(case)
            seen |= values
    return selection


def digest(case):
    """A number that is the same in every process."""
    return zlib.crc32(case.nodeid.encode())
