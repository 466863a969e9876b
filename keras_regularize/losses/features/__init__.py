"""Penalties on features of known classes."""

from keras_regularize.losses.features._neural_collapse import (
    neural_collapse_between,
    neural_collapse_within,
)
from keras_regularize.losses.features._rationale_invariance import rationale_invariance

__all__ = ["neural_collapse_between", "neural_collapse_within", "rationale_invariance"]
