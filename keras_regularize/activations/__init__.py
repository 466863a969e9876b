"""Activations: `activation=…`."""

from keras_regularize.activations._entmax import entmax

__all__ = ["entmax"]
