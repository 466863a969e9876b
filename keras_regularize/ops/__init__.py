"""Tensor operations that Keras lacks."""

from keras_regularize.ops.cutout import cutout

__all__ = ["cutout"]
