"""The search for the weight decay by range tests."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize.callbacks import LearningRateFinder
from keras_regularize.hyper import weight_decay_search
from keras_regularize.models import RegularizedModel
from keras_regularize.optimizers import DecoupledWeightDecay, OneCycle, Proximal
from keras_regularize.testing._common import to_numpy

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
X = Y = np.ones((8, 1), "float32")
DECAYS = (3.0, 1.0, 0.3, 0.0)


def above_one(y, p):
    """Squared errors that never vanish: a range test ends at four times the smallest loss."""
    return (p - y) ** 2 + 1


def quadratic(optimizer, weight=0.0, loss="mse"):
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    net.set_weights([np.full((1, 1), weight)])
    net.compile(optimizer, loss)
    return net


def search(net, **options):
    defaults = {"batch_size": 1, "epochs": 9, "verbose": 0}
    finder = LearningRateFinder(1e-2, 50.0, 24, smoothing=0.6)
    return weight_decay_search(net, X, Y, **{"finder": finder, **defaults, **options})


def loop(decay):
    """Rates and smoothed losses of a range test of `(w - 1)^2` with momentum, in float64."""
    w = velocity = average = 0.0
    rates, smoothed = np.geomspace(1e-2, 50.0, 24), []
    for rate in rates:
        gradient = 2 * (w - 1)
        average = 0.6 * average + 0.4 * (w - 1) ** 2
        smoothed.append(average / (1 - 0.6 ** (len(smoothed) + 1)))
        if len(smoothed) > 1 and smoothed[-1] > 4 * min(smoothed):
            break
        velocity = 0.5 * velocity - rate * gradient
        w = w - rate * decay * w + velocity
    return rates[: len(smoothed)], np.array(smoothed)


def test_the_search_is_that_of_a_loop():
    net = quadratic(SGD(0.1, momentum=0.5))
    found = search(net, weight_decays=DECAYS[::-1], tolerance=0.2)
    lowest = min(loop(decay)[1].min() for decay in DECAYS)
    level = 1 - 0.9 * (1 - lowest)  # The loss is 1 at the start.

    def highest(decay):
        rates, smoothed = loop(decay)
        return max(rates[smoothed <= level], default=0.0)

    allowed = 0.8 * max(map(highest, DECAYS))
    low, high = 0.3, 1.0
    assert highest(low) > allowed > highest(high)
    tried = list(DECAYS)
    for _ in range(3):
        tried.append(np.sqrt(low * high))
        low, high = (tried[-1], high) if highest(tried[-1]) >= allowed else (low, tried[-1])
    assert 0.3 < low < high < 1.0
    assert found.weight_decay == pytest.approx(low)
    rates, smoothed = loop(low)
    assert found.learning_rate == pytest.approx(rates[np.argmin(smoothed)] / 10)
    np.testing.assert_allclose(list(found.range_tests), tried)
    for decay, curve in found.range_tests.items():
        rates, smoothed = loop(decay)
        np.testing.assert_allclose(curve.learning_rates, rates)
        np.testing.assert_allclose(curve.smoothed_losses, smoothed, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("inner", [lambda owner: owner, keras.optimizers.LossScaleOptimizer])
def test_the_decay_is_that_of_the_decoupled_optimizer_if_there_is_one(inner):
    owner = DecoupledWeightDecay(SGD(0.1), 0.01)
    plain = Adam(0.1, weight_decay=0.02)
    for decaying, optimizer in (
        (owner, Proximal(owner, 0.0)),
        (plain, Proximal(plain, 0.0)),
    ):
        net, seen = RegularizedModel(quadratic("sgd", 1.0)), set()
        net.compile(inner(optimizer), above_one)
        before = decaying.weight_decay
        watch = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: seen.add(decaying.weight_decay)  # noqa: B023
        )
        # The weight is where the loss is least: only the decay moves it.
        found = search(net, weight_decays=(0.5, 0.0), bisections=0, callbacks=[watch])
        assert seen == {0.5, 0.0}
        losses = [curve.smoothed_losses for curve in found.range_tests.values()]
        assert losses[0][2] > 1 and losses[1][2] == 1
        assert decaying.weight_decay == before
        assert to_numpy(net.optimizer.learning_rate) == np.float32(0.1)
        np.testing.assert_array_equal(net.get_weights()[0], 1.0)


def test_range_tests_differ_in_nothing_but_the_decay():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype("float32")
    net = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dropout(0.5)])
    net.add(layers.BatchNormalization())
    net.add(layers.Dense(1))
    net.compile(SGD(0.1, momentum=0.9), "mse")
    before = [w.copy() for w in net.get_weights()]
    options = {"batch_size": 2, "epochs": 2, "bisections": 0, "verbose": 0}
    # Decays that do nothing in float32.
    found = weight_decay_search(
        net,
        x,
        x[:, :1] + 1,
        weight_decays=(1e-20, 1e-30),
        finder=LearningRateFinder(stop_factor=1e3),
        **options,
    )
    first, second = found.range_tests.values()
    assert len(first.smoothed_losses) > 10 and found.weight_decay == 1e-20
    np.testing.assert_array_equal(first.smoothed_losses, second.smoothed_losses)
    for value, initial in zip(net.get_weights(), before):
        np.testing.assert_array_equal(value, initial)


def test_nothing_is_bisected_beside_the_largest_and_beside_zero(capsys):
    largest = search(quadratic(SGD(0.1)), weight_decays=(1e-4, 1e-5), verbose=1)
    assert largest.weight_decay == 1e-4 and len(largest.range_tests) == 2
    assert "5/5" in capsys.readouterr().out
    zero = search(quadratic(SGD(0.1)), weight_decays=(30.0, 0.0), tolerance=0.0)
    assert zero.weight_decay == 0.0 and len(zero.range_tests) == 2


def test_a_decay_that_is_set_afterwards_counts():
    net = quadratic(SGD(0.1), 1.0, above_one)
    search(net, weight_decays=(0.5, 0.0))
    net.optimizer.weight_decay = 0.2
    net.fit(X[:1], Y[:1], verbose=0)
    np.testing.assert_allclose(net.get_weights()[0], 1 - 0.1 * 0.2, rtol=1e-6)


def test_an_error_in_a_range_test_leaves_the_decay_as_it_was():
    net = quadratic(SGD(OneCycle(1.0, 10), weight_decay=0.02))
    with pytest.raises(ValueError, match="sets the learning rate, so the optimizer's must be"):
        search(net)
    assert net.optimizer.weight_decay == 0.02


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weight_decays": ()}, "`weight_decays` must be finite numbers"),
        ({"weight_decays": (0.1, -0.1)}, "`weight_decays` must be finite numbers"),
        ({"weight_decays": (float("nan"),)}, "`weight_decays` must be finite numbers"),
        ({"tolerance": 1.0}, "`tolerance` must be a number at least 0 and below 1"),
        ({"bisections": -1}, "`bisections` must be an integer of at least 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        search(quadratic("sgd"), **options)


def test_a_model_must_be_compiled():
    with pytest.raises(ValueError, match="needs a compiled model"):
        search(keras.Sequential([keras.Input((1,)), layers.Dense(1)]))
