"""Folding of straight lines: walks whose measure is known, and networks that fold."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize.analysis import folding_measure, global_folding, space_folding
from tests.helpers import normal


def absolute_value(activation="relu"):
    """|x|, then a unit that is on where it is above a half."""
    net = keras.Sequential([keras.Input((1,))])
    for kernel, bias in [([[1.0, -1.0]], [0.0, 0.0]), ([[1.0], [1.0]], [-0.505])]:
        layer = layers.Dense(len(bias), activation=activation)
        net.add(layer)
        layer.set_weights([np.array(kernel), np.array(bias)])
    net.add(layers.Dense(1))
    return net


def test_walks_there_and_back():
    walk = np.tril(np.ones((5, 4)), -1)  # One unit more at each step.
    assert folding_measure(walk) == 0
    there_and_back = np.concatenate([walk, walk[::-1]])
    assert folding_measure(there_and_back) == 0.5
    assert folding_measure(np.repeat(there_and_back, 3, axis=0)) == 0.5
    assert folding_measure(walk[:1]) == folding_measure(np.ones((3, 2))) == 0
    assert folding_measure(walk > 0) == folding_measure(7 * walk)


def test_the_absolute_value_folds():
    net = absolute_value()
    assert space_folding(net, [0.01], [1.0]) == 0
    assert space_folding(net, [-1.0], [1.0]) == pytest.approx(0.25)
    curve = space_folding(net, [-1.0], [1.0], steps=20, curve=True)
    assert curve.shape == (21,) and curve[0] == 0 and curve[-1] == pytest.approx(0.25)
    assert space_folding(net, [-1.0], [1.0], layers=[net.layers[0]]) == 0
    assert space_folding(net, [-1.0], [1.0], layers=[net.layers[1].name]) == pytest.approx(0.5)
    both = [space_folding(net, *way) for way in (([-1.0], [0.3]), ([0.3], [-1.0]))]
    assert space_folding(net, [-1.0], [0.3], symmetric=True) == pytest.approx(np.mean(both))


def test_layers_of_activations_and_dropout():
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(16, activation="relu"), layers.Dense(16, activation="relu")]
    inside = keras.Sequential([keras.Input((3,)), *dense])
    apart = [keras.Input((3,))]
    for _ in dense:
        apart += [layers.Dense(16), layers.ReLU(), layers.Dropout(0.5)]
    apart = keras.Sequential(apart)
    weights = [w for layer in dense for w in layer.get_weights()]
    apart.set_weights(weights)
    a, b = normal(3), -normal(3, seed=1)
    start, end = 3 * a, 3 * b
    got = space_folding(apart, start, end)
    assert got == space_folding(apart, start, end)
    first = space_folding(inside, start, end, layers=dense[:1])
    assert first == 0  # Each unit of the first layer switches at most once.
    assert space_folding(apart, start, end, layers=[apart.layers[1]]) == 0


def test_the_whole_is_that_of_pairs_of_different_classes():
    net, x = absolute_value(), np.array([[-1.0], [-0.8], [0.8], [1.0]])
    result = global_folding(net, x, [0, 0, 1, 1], pairs=20, steps=100, seed=0)
    assert result.values.shape == (20,)
    np.testing.assert_allclose(result.values, 0.25)
    assert (result.median, result.zero_share) == (pytest.approx(0.25), 0.0)
    flat = global_folding(net, x, [[0], [1], [0], [1]], pairs=40, seed=0)
    assert 0 < flat.zero_share < 1 and flat.median == pytest.approx(0.25)
    assert flat.mean == pytest.approx(0.25 * (1 - flat.zero_share))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda net: folding_measure([0, 1]), r"\(steps, units\)"),
        (lambda net: folding_measure(np.zeros((0, 2))), "at least one"),
        (lambda net: space_folding(net, [0.0], [1.0, 2.0]), "of one shape"),
        (lambda net: space_folding(net, [0.0], [1.0], steps=0), "`steps`"),
        (lambda net: space_folding(absolute_value("sigmoid"), [0.0], [1.0]), "by `layers`"),
        (lambda net: global_folding(net, np.ones((3, 1)), [0, 0, 0]), "two classes"),
        (lambda net: global_folding(net, np.ones((3, 1)), [0, 1]), "for each input"),
        (lambda net: global_folding(net, np.ones((2, 1)), [0, 1], pairs=0), "`pairs`"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(absolute_value())
