"""Helpers for data and models that Keras lacks."""

from keras_regularize.utils.columns import with_index
from keras_regularize.utils.variables import AllBut

__all__ = ["AllBut", "with_index"]
