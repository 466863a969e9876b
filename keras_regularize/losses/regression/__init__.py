"""Losses of numbers."""

from keras_regularize.losses.regression.matching_loss import MatchingLoss

__all__ = ["MatchingLoss"]
