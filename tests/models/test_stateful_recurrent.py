"""Stateful recurrent layers carry their states from batch to batch under a wrapper as in plain training."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(16, 5, 2).astype("float32"), RNG.rand(16, 1).astype("float32")
ON_JAX = keras.backend.backend() == "jax"  # There Keras itself never moves them.


class Inside(layers.Layer):
    """Holds a recurrent layer as an attribute."""

    def __init__(self, layer):
        super().__init__()
        self.inner = layer

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


KINDS = {
    "LSTM": lambda: layers.LSTM(3, stateful=True),
    "GRU": lambda: layers.GRU(3, stateful=True),
    "SimpleRNN": lambda: layers.SimpleRNN(3, stateful=True),
    "cells": lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)], stateful=True),
    "bidirectional": lambda: layers.Bidirectional(layers.SimpleRNN(3, stateful=True)),
    "nested": lambda: Inside(layers.SimpleRNN(3, stateful=True)),
}


def states(layer):
    inner = [getattr(layer, n, None) for n in ("inner", "forward_layer", "backward_layer")]
    held = [part for part in (layer, *inner) if getattr(part, "states", None)]
    return [np.array(v.numpy()) for part in held for v in keras.tree.flatten(part.states)]


def trained(kind, wrap):
    keras.utils.set_random_seed(0)
    layer = KINDS[kind]()
    net = keras.Sequential([keras.Input(batch_shape=(4, 5, 2)), layer, layers.Dense(1)])
    model = wrap(net)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    losses = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
    return losses, states(layer), model.predict(X, batch_size=4, verbose=0), net, layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["RegularizedModel", "SAM", "MomentumSAM"])
def test_a_neutral_wrapper_moves_them_as_plain_training_does(kind, rule):
    neutral = {} if rule == "RegularizedModel" else {"rho": 0.0}
    try:
        expected = trained(kind, lambda net: net)
    except RuntimeError:  # torch: states change in place while a gradient still needs them.
        expected = None
    got = trained(kind, lambda net: getattr(kr.models, rule)(net, **neutral))
    if expected is not None:
        for a, b in zip(keras.tree.flatten(got[:3]), keras.tree.flatten(expected[:3]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert all(np.any(state != 0) for state in got[1]) != ON_JAX


def test_states_are_those_after_the_clean_pass_and_can_be_reset():
    if ON_JAX:
        return
    keras.utils.set_random_seed(0)
    layer = layers.SimpleRNN(3, stateful=True)
    net = keras.Sequential([keras.Input(batch_shape=(4, 5, 2)), layer, layers.Dense(1)])
    model = kr.models.SAM(net, rho=0.5)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    kernel, recurrent, bias = [w.copy() for w in layer.get_weights()]
    model.train_on_batch(X[:4], Y[:4])
    h = np.zeros((4, 3))
    for t in range(5):
        h = np.tanh(X[:4, t] @ kernel + h @ recurrent + bias)
    np.testing.assert_allclose(layer.states[0].numpy(), h, atol=1e-6)
    layer.reset_state()
    np.testing.assert_array_equal(layer.states[0].numpy(), np.zeros((4, 3)))
