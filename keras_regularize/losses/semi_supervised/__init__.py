"""Pieces of losses that need no labels."""

from keras_regularize.losses.semi_supervised._conditional_entropy import conditional_entropy

__all__ = ["conditional_entropy"]
