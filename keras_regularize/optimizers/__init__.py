"""`compile(optimizer=…)`: optimizers that wrap any Keras optimizer."""

from keras_regularize.optimizers.proximal import Proximal

__all__ = ["Proximal"]
