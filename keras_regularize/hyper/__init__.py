"""Choosing what a network is trained or run with: bits for every layer."""

from keras_regularize.hyper._search_bits import search_bits
from keras_regularize.hyper.accuracy_predictor import AccuracyPredictor

__all__ = [
    "AccuracyPredictor",
    "search_bits",
]
