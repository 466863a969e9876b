"""Cosine annealing with warm restarts."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize.callbacks import WarmRestarts
from keras_regularize.optimizers import DecoupledWeightDecay, Proximal
from keras_regularize.testing._common import to_numpy

SGD = keras.optimizers.SGD
# Without inputs the kernel has no gradient and only decays.
X, Y = np.zeros((8, 2), "float32"), np.zeros((8, 1), "float32")


def model(optimizer):
    net = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False)])
    net.set_weights([np.array([[1.0], [-2.0]])])
    net.compile(optimizer, "mse")
    return net


def remaining(epochs, steps, decay, first, multiplier):
    """What the decays of those epochs leave of a weight of 1, in a loop of the formula."""
    left = 1.0
    for epoch in epochs:
        for batch in range(steps):
            start, length = 0, first
            while epoch >= start + length:
                start, length = start + length, length * multiplier
            eta = 0.5 + 0.5 * np.cos(np.pi * (epoch - start + batch / steps) / length)
            left *= 1 - eta * decay * np.sqrt(first / length)
    return left


def test_decays_follow_the_formula_and_a_resumed_training_too():
    # Found inside another wrapper, too.
    net = model(Proximal(DecoupledWeightDecay(SGD(0.1), 0.2), 0.0))
    decay = net.optimizer.optimizer
    net.fit(X, Y, batch_size=2, epochs=5, verbose=0, callbacks=[WarmRestarts(2, 2)])
    left = remaining(range(5), 4, 0.2, 2, 2)
    np.testing.assert_allclose(net.get_weights()[0][:, 0], [left, -2 * left], rtol=1e-5)
    assert to_numpy(decay.multiplier) == to_numpy(decay.decay_multiplier) == 1.0

    resume = {"initial_epoch": 5, "epochs": 6, "callbacks": [WarmRestarts(2, 2)]}
    net.fit(X, Y, batch_size=2, verbose=0, **resume)
    left = remaining(range(6), 4, 0.2, 2, 2)
    np.testing.assert_allclose(net.get_weights()[0][:, 0], [left, -2 * left], rtol=1e-5)


def test_steps_are_scaled_like_the_decay():
    # A bias whose gradient is always 1.
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    net.compile(DecoupledWeightDecay(SGD(0.1), 0.0), lambda y, p: p)
    net.fit(X[:, :1], Y, batch_size=2, epochs=2, verbose=0, callbacks=[WarmRestarts(1, 1)])
    moved = 2 * 0.1 * sum(0.5 + 0.5 * np.cos(np.pi * batch / 4) for batch in range(4))
    np.testing.assert_allclose(net.get_weights()[1], [-moved], rtol=1e-5)


def test_errors():
    for optimizer in (SGD(0.1), DecoupledWeightDecay(SGD(lambda: 0.1), 0.1)):
        with pytest.raises(ValueError, match="needs a model that is compiled with"):
            model(optimizer).fit(X, Y, verbose=0, callbacks=[WarmRestarts(1)])
    with pytest.raises(ValueError, match="`multiplier` must be a number at least 1"):
        WarmRestarts(1, 0.5)
    with pytest.raises(ValueError, match="`first_epochs` must be an integer"):
        WarmRestarts(0)

    def batches():
        yield X, Y

    with pytest.raises(ValueError, match="how many batches an epoch has"):
        model(DecoupledWeightDecay(SGD(0.1), 0.1)).fit(
            batches(), shuffle=False, verbose=0, callbacks=[WarmRestarts(1)]
        )
