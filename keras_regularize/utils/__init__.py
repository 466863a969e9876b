"""Helpers for data and models that Keras lacks."""

from keras_regularize.utils.columns import with_index

__all__ = ["with_index"]
