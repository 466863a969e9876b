"""Losses, regularizers, constraints, layers, metrics and train steps for Keras 3 on every backend."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_regularize import (
    activations,
    attacks,
    autodiff,
    constraints,
    layers,
    losses,
    metrics,
    models,
    numerics,
    ops,
    optimizers,
    regularizers,
    utils,
)
from keras_regularize._version import __version__

if TYPE_CHECKING:
    from keras_regularize import analysis, callbacks, generative, hyper, inverse, testing

# Imported when first used: saved models hold nothing of them, whereas `load_model` finds classes of the others by
# name and needs them defined.
_LAZY = ("analysis", "callbacks", "generative", "hyper", "inverse", "testing")

__all__ = [
    "__version__",
    "activations",
    "analysis",
    "attacks",
    "autodiff",
    "callbacks",
    "constraints",
    "generative",
    "hyper",
    "inverse",
    "layers",
    "losses",
    "metrics",
    "models",
    "numerics",
    "ops",
    "optimizers",
    "regularizers",
    "testing",
    "utils",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
