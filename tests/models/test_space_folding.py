"""SpaceFolding: its penalty one line after the other, the limit of sharp units, its effect, what does not fit."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from tests.helpers import array

X = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
Y = X[:, :1] * X[:, 1:]


def network(units=8, activation="relu"):
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(units, activation), layers.Dense(units, activation)]
    return keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1)])


def unfolded(net, start, end, steps, sharpness):
    """`1 - χ` of a line, in float64."""
    patterns = []
    for share in np.linspace(0, 1, steps + 1):
        h, units = (1 - share) * start.astype("float64") + share * end, []
        for layer in net.layers[:-1]:
            kernel, bias = layer.get_weights()
            h = np.maximum(h @ kernel + bias, 0)
            units.append(1 / (1 + np.exp(-sharpness * h)))
        patterns.append(np.concatenate(units))
    away = max(np.abs(p - patterns[0]).sum() for p in patterns)
    return away / sum(np.abs(a - b).sum() for a, b in zip(patterns, patterns[1:]))


@pytest.mark.everywhere
def test_the_objective_is_that_of_a_loop():
    net, weights = network(), np.linspace(0.5, 1.5, 6).astype("float32")
    lines = [unfolded(net, X[i], X[i - 1], 5, 3.0) for i in range(6)]
    error = (array(net(X)) - Y)[:, 0] ** 2
    model = kr.models.SpaceFolding(net, 0.7, 5, 3.0)
    model.compile("sgd", "mse")
    loss = np.ravel(model.train_on_batch(X, Y, weights))[0]
    assert loss == pytest.approx(np.mean(weights * (error + 0.7 * np.array(lines))), rel=1e-4)


def test_sharp_units_fold_as_the_measure_has_it():
    net = network(32)
    measured = [kr.analysis.space_folding(net, X[i], X[i - 1], 20) for i in range(6)]
    soft = [1 - unfolded(net, X[i], X[i - 1], 20, 1e6) for i in range(6)]
    np.testing.assert_allclose(soft, measured, atol=1e-6)
    assert max(measured) > 0


@pytest.mark.rotating
def test_networks_fold_more():
    x = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
    y = np.sin(3 * x[:, :1])

    def folding(factor):
        net = network(16)
        model = kr.models.SpaceFolding(net, factor, 12)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(x, y, batch_size=32, epochs=30, verbose=0)
        lines = [kr.analysis.space_folding(net, x[i], x[i - 1]) for i in range(64)]
        return np.mean(lines)

    assert folding(1.0) > folding(0.0) + 0.05


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="`steps`"):
        kr.models.SpaceFolding(network(), steps=1)
    with pytest.raises(ValueError, match="`sharpness`"):
        kr.models.SpaceFolding(network(), sharpness=0.0)
    model = kr.models.SpaceFolding(network(activation="linear"))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="name some by `layers`"):
        model.fit(X, Y, verbose=0)
    model = kr.models.SpaceFolding(network(), layers=["nowhere"])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="nowhere"):
        model.fit(X, Y, verbose=0)
    ids = kr.models.SpaceFolding(network())
    ids.compile("sgd", "mse")
    with pytest.raises(ValueError, match="one floating input"):
        ids.fit(np.ones((6, 2), "int32"), Y, verbose=0)
