"""Activations: `activation=…`."""

from keras_regularize.activations.entmax import entmax

__all__ = ["entmax"]
