"""Terms that layers add to the loss."""

import keras
from keras import ops


def add_float_loss(layer, value):
    """`layer.add_loss` in the dtype of Keras' losses: TensorFlow sums no terms of different dtypes."""
    layer.add_loss(ops.cast(value, keras.config.floatx()))
