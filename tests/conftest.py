"""One backend per run (`KERAS_BACKEND`), the same seed and float32 for every test."""

import os
import pathlib

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
import shares
from hypothesis import settings

# The same examples each time, however slow the machine: a failure is one of the change at hand.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption(
        "--share",
        action="store_true",
        help="run only what falls to this backend when `make test` divides the suite among the three",
    )


def pytest_collection_modifyitems(config, items):
    if not config.getoption("share"):
        return
    kept = shares.share(items, keras.backend.backend())
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def pytest_configure(config):
    # Keras' own use of a function that torch deprecates.
    for category in ("DeprecationWarning", "FutureWarning"):  # The latter since PyTorch 2.14.
        config.addinivalue_line("filterwarnings", f"ignore:.*torch.jit.script.*:{category}")
    # Keras 3.13 in `ops.slice`, before PyTorch 2.9.
    config.addinivalue_line(
        "filterwarnings", "ignore:Using a non-tuple sequence for multidimensional:UserWarning"
    )
    # Two processes share the cache: an entry that the other one is still writing is compiled again.
    config.addinivalue_line(
        "filterwarnings", "ignore:Error (reading|writing) persistent compilation cache:UserWarning"
    )


@pytest.fixture(autouse=True)
def fresh_logs(monkeypatch):
    """`train_on_batch` and `test_on_batch` give the values of their batch, as since Keras 3.15.

    Before, they are means since the last `reset_metrics`.
    """
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        for name in ("train_on_batch", "test_on_batch"):
            monkeypatch.setattr(keras.Model, name, _after_reset(getattr(keras.Model, name)))


def _after_reset(method):
    def run(self, *args, **kwargs):
        self.reset_metrics()
        return method(self, *args, **kwargs)

    return run


@pytest.fixture(autouse=True)
def fresh_state():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
