"""A small network in NumPy and in Keras, with the losses that attacks maximize, one sample at a time."""

import keras
import numpy as np

from tests.helpers import array


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def loss_and_slope(name, z, y, clean):
    """Value and derivative with respect to the logits of what is maximized."""
    p, label = softmax(z), np.eye(len(z))[y]
    if name == "cross_entropy":
        return -np.log(p[y]), p - label
    if name == "kl":
        q = softmax(clean)
        return np.sum(q * (np.log(q) - np.log(p))), p - q
    other = max((j for j in range(len(z)) if j != y), key=lambda j: z[j])
    margin, slope = z[other] - z[y], np.eye(len(z))[other] - label
    if name == "margin":
        return margin, slope
    order = np.argsort(z)
    width = z[order[-1]] - z[order[-3]] + 1e-12
    spread = np.eye(len(z))[order[-1]] - np.eye(len(z))[order[-3]]
    return margin / width, slope / width - margin / width**2 * spread


class Network:
    """`tanh(x A) B + b` in NumPy and, with the same weights, in Keras."""

    def __init__(self, inputs=5, classes=4, last=None, seed=0, scale=1.0):
        rng = np.random.default_rng(seed)
        self.weights = [
            scale * rng.normal(size=(inputs, 6)),
            rng.normal(size=(6, classes)),
            rng.normal(size=classes),
        ]
        self.keras = keras.Sequential(
            [
                keras.Input((inputs,)),
                keras.layers.Dense(6, "tanh", use_bias=False),
                keras.layers.Dense(classes, last),
            ]
        )
        self.keras.set_weights(self.weights)

    def logits(self, x):
        first, second, bias = self.weights
        return np.tanh(x @ first) @ second + bias

    def loss(self, name, x, y, clean=None):
        return loss_and_slope(name, self.logits(x), y, clean)[0]

    def gradient(self, name, x, y, clean):
        first, second, _ = self.weights
        slope = loss_and_slope(name, self.logits(x), y, clean)[1]
        return first @ ((1 - np.tanh(x @ first) ** 2) * (second @ slope))


def sample(rows=6, inputs=5, classes=4, seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(rows, inputs)).astype("float32"), rng.integers(0, classes, rows)


def assert_same(found, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(array(found), expected, rtol=rtol, atol=atol)
