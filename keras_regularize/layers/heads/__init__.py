"""Last layers of classifiers."""

from keras_regularize.layers.heads.legendre_link import LegendreLink

__all__ = ["LegendreLink"]
