"""Called to choose what a network is trained or run with: bits for every layer, the weight decay."""

from keras_regularize.hyper._search_bits import search_bits
from keras_regularize.hyper._weight_decay_search import weight_decay_search
from keras_regularize.hyper.accuracy_predictor import AccuracyPredictor

__all__ = [
    "AccuracyPredictor",
    "search_bits",
    "weight_decay_search",
]
