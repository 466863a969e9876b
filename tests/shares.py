"""Which tests a backend runs when `make test` divides the suite among the three (`pytest --share`).

- All cases of a test run on PyTorch, where a case takes a tenth of what it takes on the others. These take samples
  of a selection in which every value of every parameter occurs, a thirty-second each and different ones.
- `everywhere` marks what no backend may leave out: golden cases, the contract of every symbol, derivatives, the
  train step, and parameters that are about a backend. Of a contract TensorFlow and JAX both run the check of
  numbers at the edge of what a backend can hold; those of what it computes besides, also in half precision, for
  each symbol one of the two; and an eighth of the others, different ones for each symbol.
- `rotating` marks experiments that show what a method is good for, whose numbers are pinned
  elsewhere: each runs on one backend, a sixth of them on TensorFlow.
- `once` marks what does not depend on the backend (in a module so marked, but for what is `rotating`).

Which case falls to which backend depends on the names of the cases alone. Without `--share` everything runs.
"""

import zlib

BACKENDS = ("tensorflow", "jax", "torch")
#: By how many the selected cases are counted off, and which of them a backend takes.
SAMPLES = {"tensorflow": (32, 0), "jax": (32, 8)}
#: The checks of a contract that both TensorFlow and JAX run. What XLA makes of a step, JAX shows.
ALWAYS = {"tensorflow": {"finite"}, "jax": {"finite", "jit"}}
#: The checks that one of them runs.
EITHER = {"fit", "gradient", "half precision", "unknown batch"}


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
        return [case for case in cases if one_backend(case) == backend]
    if "once" in marks:
        return cases if backend == "torch" else []
    if "everywhere" in marks or backend == "torch":
        return cases
    selection = covering(cases)
    first = digest(selection[0])
    size, taken = SAMPLES[backend]
    return [case for i, case in enumerate(selection) if (first + i) % size == taken]


def checks_left_out(symbol, checks, backend):
    """Those checks of a symbol's contract that a backend leaves to PyTorch."""
    if backend == "torch":
        return set()
    computes = ("tensorflow", "jax")[zlib.crc32(symbol.encode()) % 2] == backend
    kept = ALWAYS[backend] | (EITHER if computes else set())
    others = [check for check in checks if check not in kept | EITHER]
    first = zlib.crc32(f"{backend} {symbol}".encode())
    left_out = {check for i, check in enumerate(others) if (first + i) % 8}
    return left_out | ({check for check in checks if check in EITHER} - kept)


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


def one_backend(case):
    """Where an experiment runs: a sixth on TensorFlow, on which it takes longest, and half on PyTorch."""
    number = digest(case)
    return BACKENDS[number % 3] if number % 3 or number // 3 % 2 else "torch"


def digest(case):
    """A number that is the same in every process."""
    return zlib.crc32(case.nodeid.encode())
