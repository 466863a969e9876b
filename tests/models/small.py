"""The small models and data that the tests of the train steps share."""

import keras
import numpy as np
from keras import layers

RNG = np.random.RandomState(0)
X = RNG.rand(48, 6).astype("float32")
Y = RNG.randint(0, 3, 48)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp(dropout=0.0, normalize=False):
    keras.utils.set_random_seed(3)
    stack = [keras.Input((6,)), layers.Dense(8, "tanh", kernel_regularizer="l2")]
    if normalize:
        stack.append(layers.BatchNormalization())
    return keras.Sequential([*stack, layers.Dropout(dropout, seed=1), layers.Dense(3)])


def network(activation=None, outputs=3, penalty="l2"):
    """Smaller still, for four inputs."""
    keras.utils.set_random_seed(1)
    hidden = layers.Dense(5, "tanh", kernel_regularizer=penalty)
    return keras.Sequential([keras.Input((4,)), hidden, layers.Dense(outputs, activation)])


def single_steps(model, steps, x=X[:16], y=Y[:16]):
    """Takes steps on the same batch; the losses."""
    return [float(np.asarray(model.train_on_batch(x, y))) for _ in range(steps)]


class Quadratic(keras.layers.Layer):
    """`½ wᵀHw` as a model output, for a loss that is its mean."""

    def __init__(self, matrix, start):
        super().__init__()
        self.matrix, self.start = np.asarray(matrix, "float32"), start

    def build(self, shape):
        self.w = self.add_weight(shape=(len(self.start),), name="w")
        self.w.assign(np.asarray(self.start, "float32"))

    def call(self, x):
        value = 0.5 * keras.ops.sum(self.w * keras.ops.matmul(self.matrix, self.w))
        return value + 0.0 * x


def quadratic(matrix, start):
    """`(layer, model)` whose output is a quadratic form of the weights `layer.w`."""
    layer = Quadratic(matrix, start)
    return layer, keras.Sequential([keras.Input((1,)), layer])
