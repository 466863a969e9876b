"""Tensor operations that Keras lacks."""

from keras_regularize.ops._cutout import cutout

__all__ = ["cutout"]
