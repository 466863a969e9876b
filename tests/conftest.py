"""One backend per run (`KERAS_BACKEND`), the same seed and float32 for every test.

`make test` runs the suite once per backend, with `--share`: what need not be repeated on each is divided.

- All cases of a test run on PyTorch. Of a test with parameters TensorFlow and JAX run half each of a selection in
  which every value of every parameter occurs: together they see each value, and PyTorch each combination.
- `everywhere` marks what no backend may leave out: the golden cases and the contract of every symbol.
- `rotating` marks examples, guides and experiments that show what a method is good for, whose numbers are pinned
  elsewhere: each runs on one backend.
- `once` marks what does not depend on the backend (in a module so marked, but for what is `rotating`).

Which case falls to which backend depends on its name alone. Without `--share` everything runs.
"""

import os
import pathlib
import zlib

# JAX compiles most programs of the suite many times over, and again in every process.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(__file__).resolve().parent.parent / ".pytest_cache" / "jax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Tiny operations, shared out among threads that wait for one another, take several times as long on torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from hypothesis import settings

# The same examples each time, however slow the machine: a failure is one of the change at hand.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


BACKENDS = ("tensorflow", "jax", "torch")


def pytest_addoption(parser):
    parser.addoption(
        "--share",
        action="store_true",
        help="run only what falls to this backend when `make test` divides the suite among the three",
    )


def pytest_collection_modifyitems(config, items):
    if not config.getoption("share"):
        return
    tests = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {case for cases in tests.values() for case in share(cases, keras.backend.backend())}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def share(cases, backend):
    """Those cases of one test that fall to a backend."""
    marks = {mark.name for mark in cases[0].iter_markers()}
    if "rotating" in marks:
        return [case for case in cases if BACKENDS[digest(case) % 3] == backend]
    if "once" in marks:
        return cases if backend == "torch" else []
    if "everywhere" in marks or backend == "torch":
        return cases
    selection = covering(cases)
    return selection[BACKENDS.index(backend) :: 2] or selection


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


def pytest_configure(config):
    # Keras' own use of a function that torch deprecates.
    config.addinivalue_line("filterwarnings", "ignore:.*torch.jit.script.*:DeprecationWarning")
    # Two processes share the cache: an entry that the other one is still writing is compiled again.
    config.addinivalue_line(
        "filterwarnings", "ignore:Error (reading|writing) persistent compilation cache:UserWarning"
    )


@pytest.fixture(autouse=True)
def fresh_state():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
