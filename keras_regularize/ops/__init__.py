"""Tensor operations that Keras lacks."""

from keras_regularize.ops.images import cutout

__all__ = ["cutout"]
