"""What many tests do: arrays to tensors and back, values with gradients."""

import numpy as np
from keras import ops

from keras_regularize.regularizers.activity import DIVIDES
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients


def array(x):
    """A tensor as an array."""
    return np.asarray(ops.convert_to_numpy(x))


def number(x):
    """A scalar tensor as a float."""
    return float(ops.convert_to_numpy(ops.stop_gradient(x)))


def tensor(x, dtype="float32"):
    """An array as a tensor."""
    return ops.cast(ops.convert_to_tensor(np.asarray(x, "float32")), dtype)


def normal(*shape, seed=0):
    """Normal random numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def softmax(z):
    """Of an array, along its last axis."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def evaluate_loss(loss, y_true, y_pred):
    """Values per sample, and the gradient of their sum."""
    run = values_and_gradients(lambda z: loss.call(y_true, z))
    return tuple(map(to_numpy, run(np.asarray(y_pred, "float32"))))


def divided(total, rows):
    """What Keras makes of the value of an activity regularizer for a batch of so many rows."""
    return total / rows if DIVIDES else total


def to_be_divided(mean, rows):
    """The value of an activity regularizer of which Keras makes this mean over so many rows."""
    return mean * rows if DIVIDES else mean


def evaluate_regularizer(regularizer, w):
    """The penalty of a weight, and its gradient."""
    value, gradient = values_and_gradients(lambda w: regularizer(w))(cast(w, "float32"))
    return float(to_numpy(value)), to_numpy(gradient)
