"""Losses for models that may abstain."""

from keras_regularize.losses.rejection.rejection import Rejection

__all__ = ["Rejection"]
