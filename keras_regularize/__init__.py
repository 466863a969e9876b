"""Losses, regularizers, constraints, layers, metrics and train steps for Keras 3 on every backend."""

from keras_regularize import (
    activations,
    analysis,
    attacks,
    autodiff,
    callbacks,
    constraints,
    hyper,
    layers,
    losses,
    metrics,
    models,
    numerics,
    ops,
    optimizers,
    regularizers,
    testing,
    utils,
)
from keras_regularize._version import __version__

__all__ = [
    "__version__",
    "activations",
    "analysis",
    "attacks",
    "autodiff",
    "callbacks",
    "constraints",
    "hyper",
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
