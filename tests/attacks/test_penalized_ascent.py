"""Ascent at a price: closed forms, prices per sample, the loop, arguments."""

import keras
import numpy as np
import pytest
from counting import Passes, count, counting_model

import keras_regularize as kr
from tests.helpers import array

PenalizedAscent = kr.attacks.PenalizedAscent
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 4)).astype("float32"), RNG.integers(0, 3, 6)


def regression():
    """A linear model with the squared loss, of which the supremum is known."""
    kernel = np.float32([[0.5], [-0.3], [0.8], [0.1]])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([kernel])
    model.compile("sgd", "mse")
    return model, kernel[:, 0].astype("float64")


@pytest.mark.parametrize("steps", [20, 220])
@pytest.mark.parametrize("step_size", [None, 0.2])
def test_reaches_the_supremum_of_a_squared_loss(steps, step_size):
    # (w·z - y)² - γ‖z - x‖² is largest at z = x + w r / (γ - ‖w‖²), where it is γ r² / (γ - ‖w‖²).
    model, w = regression()
    gamma, target = 3.0, RNG.normal(size=(6, 1)).astype("float32")
    attack = PenalizedAscent(gamma, step_size, steps, loss="compiled")
    found = array(attack(model, X, target))
    residual = X @ w - target[:, 0]
    expected = X + w * (residual / (gamma - w @ w))[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    value = (found @ w - target[:, 0]) ** 2 - gamma * np.sum((found - X) ** 2, axis=1)
    np.testing.assert_allclose(value, gamma * residual**2 / (gamma - w @ w), rtol=1e-4)
    assert (value >= residual**2).all()


def test_a_price_for_each_sample():
    model, _ = counting_model()
    attack = PenalizedAscent(1.0, steps=4)
    prices = np.float32([0.5, 2.0, np.inf, 0.5, 7.0, np.inf])
    found = array(attack(model, X, Y, gamma=prices))
    np.testing.assert_array_equal(found[prices == np.inf], X[prices == np.inf])
    for price in (0.5, 2.0, 7.0):
        alone = array(PenalizedAscent(price, steps=4)(model, X, Y))
        np.testing.assert_allclose(found[prices == price], alone[prices == price], rtol=1e-6)
    np.testing.assert_array_equal(array(PenalizedAscent(np.inf)(model, X, Y)), X)


def test_without_a_price_it_is_plain_ascent():
    model, w = regression()
    target = RNG.normal(size=(6, 1)).astype("float32")
    found = array(PenalizedAscent(0, 0.1, 3, loss="compiled")(model, X, target))
    expected = X.astype("float64")
    for _ in range(3):
        expected = expected + 0.1 * 2 * w * (expected @ w - target[:, 0])[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    prices = np.float32([0, 0, 0, 1, 1, np.inf])
    mixed = array(PenalizedAscent(1.0, 0.1, 3, "compiled")(model, X, target, gamma=prices))
    np.testing.assert_allclose(mixed[:3], expected[:3], rtol=1e-4, atol=1e-5)
    assert np.abs(mixed[3:5] - expected[3:5]).max() > 1e-3
    np.testing.assert_array_equal(mixed[5], X[5])
    with pytest.raises(ValueError, match="needs a `step_size`"):
        PenalizedAscent(1.0, loss="compiled")(model, X, target, gamma=prices)


def test_a_higher_price_moves_less():
    model, _ = counting_model()
    moved = [
        np.linalg.norm(array(PenalizedAscent(g)(model, X, Y)) - X, axis=1) for g in (1.0, 3.0, 9.0)
    ]
    assert (moved[0] > moved[1]).all() and (moved[1] > moved[2]).all() and (moved[2] > 0).all()


def test_the_output_of_an_embedding_is_moved():
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(7, 2, name="words"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    table, kernel, bias = model.get_weights()
    tokens = RNG.integers(0, 7, (5, 3))
    head = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    head.set_weights([kernel, bias])
    flat = table[tokens].reshape(5, 6)
    expected = array(PenalizedAscent(0.7)(head, flat, Y[:5])) - flat
    (found,) = PenalizedAscent(0.7, layer="words")(model, tokens, Y[:5])
    np.testing.assert_allclose(array(found).reshape(5, 6), expected, rtol=1e-4, atol=1e-6)


def test_passes():
    model, counter = counting_model()
    assert count(counter, lambda: PenalizedAscent(steps=4)(model, X, Y)) == Passes(4, 4, 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"gamma": 0}, "Plain ascent, `gamma=0`, needs a `step_size`"),
        ({"gamma": -1.0}, "`gamma` must be a number at least 0.*gamma=-1.0"),
        ({"steps": -1}, "`steps` must be an integer of at least 0"),
        ({"step_size": 0.0}, "`step_size` must be above 0 and at most 1 / gamma"),
        ({"gamma": 4.0, "step_size": 0.3}, "beyond which the ascent diverges.*step_size=0.3"),
        ({"loss": "kl"}, "`loss` must be one of 'cross_entropy', 'compiled'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PenalizedAscent(**arguments)


def test_labels_are_needed():
    with pytest.raises(ValueError, match="needs labels `y`"):
        PenalizedAscent()(counting_model()[0], X)
