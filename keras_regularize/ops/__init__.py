"""Tensor operations that Keras lacks."""

from keras_regularize.ops.distances import euclidean_distance_transform
from keras_regularize.ops.images import cutout

__all__ = ["cutout", "euclidean_distance_transform"]
