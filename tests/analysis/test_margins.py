"""Margins, Lipschitz bounds and the margin of the linearized network."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import analysis
from keras_regularize.analysis.margins import _SLOPES

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(9, 4)).astype("float32")


def net(outputs=1, activation="tanh", last=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation), layers.Dense(outputs, last)]
    )


def test_a_linear_chain_has_the_norm_of_its_product():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    bounds = analysis.lipschitz_bounds(model, X)
    norm = np.linalg.norm(model.get_weights()[0], 2)
    np.testing.assert_allclose(bounds, [norm, norm], rtol=1e-5)


@pytest.mark.parametrize("strides, padding", [(1, "same"), (2, "valid")])
def test_convolutions_have_the_norm_of_their_map(strides, padding):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5, 5, 2)), layers.Conv2D(3, 3, strides, padding), layers.Flatten()]
    )
    unit = np.eye(50, dtype="float32").reshape(50, 5, 5, 2)
    matrix = ops.convert_to_numpy(model(unit))
    bounds = analysis.lipschitz_bounds(model, unit[:3])
    np.testing.assert_allclose(bounds.upper, np.linalg.norm(matrix, 2), rtol=1e-4)
    np.testing.assert_allclose(bounds.lower, bounds.upper, rtol=1e-4)


def test_images_of_bytes_are_numbers():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)]
    )
    x = RANDOM.integers(0, 255, size=(5, 2, 2, 1)).astype("uint8")
    bounds = analysis.margin_statistics(model, x, np.arange(5) % 2)
    expected = np.linalg.norm(model.get_weights()[0], 2) / 255
    np.testing.assert_allclose(
        [bounds.lipschitz_lower, bounds.lipschitz_upper], expected, rtol=1e-5
    )


def test_no_two_points_are_further_apart_than_the_bound_allows():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="gelu")(inputs))
    x = layers.AveragePooling2D(2)(layers.LeakyReLU(0.1)(layers.MaxPooling2D(2, 1)(x)))
    body = keras.Model(inputs, layers.Dropout(0.5)(layers.Flatten()(x)))
    model = keras.Sequential([keras.Input((6, 6, 1)), body, layers.Dense(3, "softmax")])
    points = RANDOM.normal(size=(40, 6, 6, 1)).astype("float32")
    lower, upper = analysis.lipschitz_bounds(model, points)
    outputs = ops.convert_to_numpy(model(points))
    rates = np.linalg.norm(outputs[1:] - outputs[:-1], axis=1) / np.linalg.norm(
        (points[1:] - points[:-1]).reshape(39, -1), axis=1
    )
    assert 0 < rates.max() <= upper and 0 < lower <= upper


@pytest.mark.parametrize("name", sorted(set(_SLOPES) - {"softmax"}))
def test_slopes_are_the_largest(name):
    if not hasattr(keras.activations, name):
        pytest.skip("not in this version of Keras")
    x = np.linspace(-6, 6, 1201).astype("float32")
    values = ops.convert_to_numpy(getattr(keras.activations, name)(x)).astype("float64")
    steepest = np.max(np.abs(np.diff(values))) / 0.01
    assert _SLOPES[name] * 0.99 <= steepest <= _SLOPES[name] * 1.0001


def test_labels_of_every_form_and_datasets_agree():
    model = net(3)
    ids = RANDOM.integers(0, 3, 9)
    outputs = ops.convert_to_numpy(model(X))
    expected = min(row[k] - np.delete(row, k).max() for row, k in zip(outputs, ids))
    given = analysis.margin_statistics(model, X, ids)
    assert given.margin == pytest.approx(expected, abs=1e-6)
    for y in (np.eye(3)[ids], ids[:, None], ids.astype("uint8")):
        np.testing.assert_allclose(analysis.margin_statistics(model, X, y), given, rtol=1e-5)
    batches = [(X[:4], ids[:4]), (X[4:], ids[4:])]
    np.testing.assert_allclose(
        analysis.margin_statistics(model, iter(batches)), given, rtol=1e-4, atol=1e-6
    )
    signs = np.where(ids == 0, -1, 1)
    np.testing.assert_allclose(
        analysis.margin_statistics(net(), X, signs),
        analysis.margin_statistics(net(), X, (signs > 0).astype("int32")[:, None]),
    )


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_inequalities_of_the_linearized_network(outputs):
    model = net(outputs)
    y = np.arange(9) % max(outputs, 2)
    given = analysis.margin_statistics(model, X, y)
    size = 9 * (1 - 1 / outputs if outputs > 1 else 1)
    assert given.ntk_margin_lower_bound >= np.sqrt(given.ntk_min_eigenvalue / size) > 0
    assert given.lipschitz_lower <= given.lipschitz_upper
    assert given.normalized_margin == pytest.approx(given.margin / given.lipschitz_upper)
    # Equal inputs with different labels: no linearized network tells them apart.
    twice = analysis.margin_statistics(model, X[[0, 0]], y[:2])
    assert twice.ntk_margin_lower_bound == 0 and twice.ntk_min_eigenvalue < 1e-4


def branched():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Add()([layers.Dense(1)(inputs), layers.Dense(1)(inputs)]))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: analysis.lipschitz_bounds(branched(), X), "must be a chain"),
        (lambda: analysis.lipschitz_bounds(net(1, "exponential"), X), "of an activation"),
        (lambda: analysis.lipschitz_bounds(net(), X[:0]), "at least one sample"),
        (lambda: analysis.margin_statistics(net(), X, np.arange(9)), "must be 0 or 1, or -1 or 1"),
        (lambda: analysis.margin_statistics(net(3), X, np.arange(9)), "ids of 3 classes"),
        (lambda: analysis.margin_statistics(net(3, last="softmax"), X, X), "gives probabilities"),
        (lambda: analysis.margin_statistics(net(), X), "Labels are missing"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_layers_without_a_constant_are_refused():
    model = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3)])
    with pytest.raises(ValueError, match="No Lipschitz constant is known of a layer"):
        analysis.lipschitz_bounds(model, np.ones((2, 4, 2)))
