"""AggregateResponse and SmoothedIPS: what holds beyond the golden cases and the contract."""

import json

import keras
import numpy as np
import pytest

from keras_regularize.losses import AggregateResponse, SmoothedIPS
from keras_regularize.testing._common import to_numpy, values_and_gradients


def evaluate(loss, y_true, y_pred):
    run = values_and_gradients(lambda f: loss.call(y_true, f))
    return tuple(map(to_numpy, run(np.asarray(y_pred, "float32"))))


BAGS = np.random.default_rng(0).normal(size=(3, 4))
MEANS = np.array([0.2, -1.0, 0.7])


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_squared_error_is_that_of_the_mean_and_the_spread_of_the_bag(rho):
    centre = BAGS.mean(1)
    expected = (MEANS - centre) ** 2 + rho * BAGS.var(1)
    slope = 2 * (centre - MEANS)[:, None] / 4 + 2 * rho * (BAGS - centre[:, None]) / 4
    for y, f in ((MEANS, BAGS), (MEANS[:, None], BAGS[..., None])):
        value, gradient = evaluate(AggregateResponse(rho), y, f)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient.reshape(3, 4), slope, rtol=1e-4, atol=1e-6)


def test_a_bag_of_one_does_not_depend_on_the_level():
    values = [evaluate(AggregateResponse(rho), MEANS, BAGS[:, :1])[0] for rho in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
    np.testing.assert_allclose(values[0], values[2], rtol=1e-6)


@pytest.mark.parametrize(
    "given", ["mae", keras.losses.BinaryCrossentropy(from_logits=True), keras.losses.log_cosh]
)
def test_any_loss_of_keras_can_be_aggregated(given):
    means = np.array([0.2, 0.5, 1.0])
    single = {
        "mae": lambda y, f: abs(y - f),
        "binary_crossentropy": lambda y, f: np.logaddexp(0, f) - y * f,
        "log_cosh": lambda y, f: np.log(np.cosh(f - y)),
    }[given if isinstance(given, str) else getattr(given, "name", None) or given.__name__]
    bag = single(means, BAGS.mean(1))
    instance = single(means[:, None], BAGS).mean(1)
    loss = AggregateResponse(0.25, given)
    restored = AggregateResponse.from_config(json.loads(json.dumps(loss.get_config())))
    for each in (loss, restored):
        np.testing.assert_allclose(
            evaluate(each, means, BAGS)[0], 0.75 * bag + 0.25 * instance, rtol=1e-4
        )


def test_smoothed_ips_weighs_by_a_power_of_the_propensity():
    policy = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.4, 0.0]])
    logged = np.array([[1, 0.25, -1.0], [2, 0.01, -0.5], [0, 0.0, 0.0]])
    for alpha in (0.0, 0.5, 1.0):
        value, slope = evaluate(SmoothedIPS(alpha), logged, policy)
        expected = [-1.0 * 0.5 / 0.25**alpha, -0.5 * 0.8 / 0.01**alpha, 0.0]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(slope[0], [0, -1.0 / 0.25**alpha, 0], rtol=1e-4)


def test_an_instance_loses_at_least_as_much_as_its_bag():
    values = [evaluate(AggregateResponse(rho, "mae"), MEANS, BAGS)[0] for rho in (0.0, 0.5, 1.0)]
    assert np.all(np.diff(values, axis=0) >= -1e-6) and np.any(values[2] > values[0] + 0.1)


def test_the_power_trades_bias_for_variance():
    propensity, policy = np.array([0.9, 0.08, 0.015, 0.005]), np.array([0.1, 0.1, 0.3, 0.5])
    cost = np.array([-0.2, -0.5, -0.6, -0.9])
    logged = np.stack([np.arange(4), propensity, cost], axis=1)
    rows = np.tile(policy, (4, 1))
    each = [evaluate(SmoothedIPS(alpha), logged, rows)[0] for alpha in (0.6, 0.8, 1.0)]
    mean = np.array([propensity @ values for values in each])
    assert mean[2] == pytest.approx(policy @ cost, rel=1e-4)  # Without bias,
    assert np.all(np.diff(mean) < 0) and np.all(mean[:2] > policy @ cost)
    # which costs more than it is worth with fewer samples than 1 / min π₀.
    error = [
        propensity @ (values - m) ** 2 / 100 + (m - policy @ cost) ** 2
        for values, m in zip(each, mean)
    ]
    assert error[1] < 0.7 * error[2], error


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: AggregateResponse(2.0),
            "`interpolation` must be a number at least 0 and at most 1",
        ),
        (lambda: AggregateResponse().call(MEANS, BAGS[0]), "Expected mean responses .bags,. or"),
        (lambda: AggregateResponse().call(MEANS[:1], BAGS), "Received: y_true.shape=.1,., y_pred"),
        (lambda: AggregateResponse().call(MEANS, BAGS[:1]), "Received: y_true.shape=.3,., y_pred"),
        (lambda: SmoothedIPS(-1), "`alpha` must be a number at least 0 and at most 1. Received"),
        (lambda: SmoothedIPS().call(MEANS, BAGS), "Expected rows .batch, 3. of action, propensity"),
        (
            lambda: SmoothedIPS().call(np.ones((1, 3)), BAGS),
            "Received: y_true.shape=.1, 3., y_pred",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
