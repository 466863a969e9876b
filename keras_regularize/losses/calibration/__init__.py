"""Losses that keep a classifier's confidence honest."""

from keras_regularize.losses.calibration.max_sup import MaxSup

__all__ = ["MaxSup"]
