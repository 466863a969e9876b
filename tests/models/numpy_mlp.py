"""A small classifier in NumPy and float64 beside the same Keras model, to test penalties on input gradients."""

import keras
import numpy as np

RNG = np.random.RandomState(0)
X, Y = RNG.rand(6, 4).astype("float32"), RNG.randint(0, 3, 6)
WEIGHTS = [
    RNG.normal(size=shape).astype("float32").astype("float64")
    for shape in [(4, 5), (5,), (5, 3), (3,)]
]
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model():
    """Keras' own: `tanh` units between two dense layers, logits out."""
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
    )
    net.set_weights(WEIGHTS)
    return net


def log_probabilities(weights, x):
    scores = np.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def losses(weights, x, y):
    """Cross-entropy of every sample, for class ids or rows of probabilities."""
    return -(_rows(y) * log_probabilities(weights, x)).sum(-1)


def gradients(weights, x, y):
    """Gradient of every sample's cross-entropy with respect to its input."""
    hidden = np.tanh(x @ weights[0] + weights[1])
    residual = np.exp(log_probabilities(weights, x)) - _rows(y)
    return ((residual @ weights[2].T) * (1 - hidden**2)) @ weights[0].T


def _rows(y):
    return np.eye(3)[y] if y.ndim == 1 else y


def descended(objective, weights=WEIGHTS, step=1e-5):
    """`weights` after one gradient step of size 1 on `objective(weights)`, by central differences."""
    result = []
    for i, value in enumerate(weights):
        gradient = np.zeros_like(value)
        for position in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = [w.copy() for w in weights]
                moved[i][position] += sign * step
                ends.append(objective(moved))
            gradient[position] = (ends[0] - ends[1]) / (2 * step)
        result.append(value - gradient)
    return result


def assert_one_step(wrapper, objective, x=X, y=Y, sample_weight=None, rtol=2e-4, atol=2e-5):
    """One step of size 1 of a wrapped `model()` logs the objective and goes where its gradient says."""
    eager = keras.backend.backend() != "jax"
    wrapper.compile(keras.optimizers.SGD(1.0), LOSS, run_eagerly=eager)
    loss = wrapper.train_on_batch(x, y, sample_weight=sample_weight)
    np.testing.assert_allclose(loss, objective(WEIGHTS), rtol=rtol)
    for got, expected in zip(wrapper.model.get_weights(), descended(objective)):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
