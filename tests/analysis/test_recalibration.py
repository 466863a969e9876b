"""Recalibrated distributions and quantiles, against slow forms of the definitions."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import normal

METHODS = ("empirical", "linear", "kde")
SURE = np.array([0.3, -1.0])  # A mean, and a standard deviation of softplus(-1) = 0.31.


def data(count, seed=0):
    y = 0.3 + np.random.default_rng(seed).normal(size=count)
    return y, np.tile(SURE, (count, 1))


def gaussian_cdf(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def pits_of(y):
    return np.array([gaussian_cdf((t - SURE[0]) / (math.log1p(math.exp(-1)) + 1e-6)) for t in y])


def error(pits):
    levels = (np.arange(100) + 0.5) / 100
    return np.mean(np.abs(levels - np.mean(pits[:, None] <= levels, axis=0)))


def kde(p, u, tau=0.01):
    """The reflected and truncated distribution function of logistic kernels, by a sum over the samples."""

    def smooth(t):
        return np.mean([1 / (1 + math.exp(-(t - v) / tau)) for v in u])

    def reflected(t):
        return 1 - smooth(2 - t) + smooth(t) - smooth(-t)

    return (reflected(p) - reflected(0.0)) / (reflected(1.0) - reflected(0.0))


def test_the_maps_are_those_of_the_definitions():
    y, predictions = data(9)
    u = np.sort(pits_of(y))
    new, rows = data(5, seed=1)
    maps = {
        "empirical": lambda p: np.mean(u <= p),
        "linear": lambda p: np.interp(p, [0, *u, 1], np.arange(11) / 10),
        "kde": lambda p: kde(p, u),
    }
    for method, function in maps.items():
        fitted = kr.analysis.QuantileRecalibration(method).fit(y, predictions)
        np.testing.assert_allclose(fitted.pits_, u, rtol=1e-9)
        expected = [function(p) for p in pits_of(new)]
        np.testing.assert_allclose(fitted.cdf(new[:, None], rows), expected, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("components", [0, 1, 3])
def test_quantiles_are_the_inverse(method, components):
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    predictions = 0.5 * rng.normal(size=(200, 3 * components or 2))
    fitted = kr.analysis.QuantileRecalibration(method).fit(y, predictions)
    levels = [0.1, 0.3, 0.55, 0.9]
    found = fitted.quantile(predictions, levels)
    assert found.shape == (200, 4) and (np.diff(found) > 0).all()
    for j, level in enumerate(levels):
        again = fitted.cdf(found[:, j], predictions)
        slack = 2 / 200 if method == "empirical" else 1e-9
        np.testing.assert_allclose(again, level, atol=slack)
        np.testing.assert_array_equal(fitted.quantile(predictions, level), found[:, j])


def test_the_conformal_index():
    """With nine samples the quantile of level 0.3 is the third, exactly, and that of 0.95 the last."""
    y, predictions = data(9)
    fitted = kr.analysis.QuantileRecalibration("empirical").fit(y, predictions)
    found = fitted.quantile(predictions[:1], [0.05, 0.3, 0.31, 0.9, 0.95])[0]
    np.testing.assert_allclose(found, np.sort(y)[[0, 2, 3, 8, 8]], rtol=1e-9)
    conformal = kr.analysis.ConformalQuantiles([0.3, 0.95]).fit(y[:, None], np.zeros((9, 2)))
    np.testing.assert_allclose(conformal.offsets_, np.sort(y)[[2, 8]])
    np.testing.assert_allclose(conformal.quantile(np.ones((2, 2)))[0], 1 + np.sort(y)[[2, 8]])


def test_new_samples_are_covered_as_they_should_be():
    y, predictions = data(600)
    assert error(pits_of(y)) > 0.1
    for method in METHODS:
        if method == "kde":  # For distributions that are not so wrong.
            predictions = predictions + [0.0, 1.0]
        fitted = kr.analysis.QuantileRecalibration(method).fit(y[:300], predictions[:300])
        own = error(fitted.cdf(y[:300], predictions[:300]))
        assert own < (0.015 if method == "kde" else 1 / 300)
        assert error(fitted.cdf(y[300:], predictions[300:])) < 0.03
        low, high = fitted.quantile(predictions[300:], [0.05, 0.95]).T
        assert np.mean((low < y[300:]) & (y[300:] < high)) == pytest.approx(0.9, abs=0.03)
    quantiles = predictions[:, :1] + [-0.5, 0.5]
    conformal = kr.analysis.ConformalQuantiles([0.05, 0.95]).fit(y[:300], quantiles[:300])
    low, high = conformal.quantile(quantiles[300:]).T
    assert np.mean((low < y[300:]) & (y[300:] < high)) == pytest.approx(0.9, abs=0.03)


def test_the_unit_of_the_targets_does_not_matter():
    y, predictions = data(50)
    moved = np.stack(
        [3 * predictions[:, 0] - 1, np.log(np.expm1(3 * np.logaddexp(0, -1) * np.ones(50)))], -1
    )
    one = kr.analysis.QuantileRecalibration().fit(y, predictions).quantile(predictions, [0.2, 0.7])
    other = kr.analysis.QuantileRecalibration().fit(3 * y - 1, moved).quantile(moved, [0.2, 0.7])
    np.testing.assert_allclose(other, 3 * one - 1, atol=1e-4)


def laplace_cdf(y_true, y_pred):
    z = (y_true - y_pred[..., 0]) / ops.exp(y_pred[..., 1])
    return 0.5 + 0.5 * ops.sign(z) * (1.0 - ops.exp(-ops.abs(z)))


def test_other_distributions_are_inverted_by_their_function():
    y, rows = 2 * normal(100), np.tile([1.0, 0.0], (100, 1)).astype("float32")
    fitted = kr.analysis.QuantileRecalibration("linear", cdf=laplace_cdf).fit(y, rows)
    found = fitted.quantile(rows[:2], [0.2, 0.5])
    np.testing.assert_allclose(fitted.cdf(found[:, 0], rows[:2]), 0.2, atol=1e-3)
    assert found.shape == (2, 2)


@pytest.mark.parametrize("method", ["empirical", "linear"])
@pytest.mark.parametrize("components", [0, 2])
def test_targets_far_in_the_tails_are_told_apart(method, components):
    y = np.array([-30.0, -20.0, 12.0, 15.0, 20.0, 25.0, 30.0, -12.0, 0.5])
    row = [0.0, math.log(math.expm1(1.0 - 1e-6))]
    if components:
        row = [0.0, 0.0, row[0], row[0], row[1], row[1]]
    predictions = np.tile(row, (9, 1))
    fitted = kr.analysis.QuantileRecalibration(method).fit(y, predictions)
    levels = np.arange(1, 10) / 10
    found, ordered = fitted.quantile(predictions[:1], levels)[0], np.sort(y)
    if method == "empirical":
        np.testing.assert_allclose(found, ordered, atol=1e-6)
    else:  # A level that is rounded is between two of them, nearer to that with more above it.
        assert (found <= ordered + 1e-6).all() and (found[1:] > ordered[:-1]).all()
    expected = np.arange(1, 10) / (9 if method == "empirical" else 10)
    np.testing.assert_allclose(fitted.cdf(np.sort(y) + 1e-9, predictions), expected, atol=1e-6)
    beyond = kr.analysis.QuantileRecalibration(method).fit(y * 1e3, predictions)
    assert beyond.quantile(predictions[:1], 0.9)[0] == np.inf


def test_what_does_not_fit_is_refused():
    y, predictions = data(9)
    with pytest.raises(ValueError, match="call `fit`"):
        kr.analysis.QuantileRecalibration().cdf(y, predictions)
    with pytest.raises(ValueError, match="call `fit`"):
        kr.analysis.ConformalQuantiles([0.5]).quantile(np.zeros((3, 1)))
    fitted = kr.analysis.QuantileRecalibration().fit(y, predictions)
    for levels in (0.0, 1.0, [0.5, np.nan], [], [[0.5]]):
        with pytest.raises(ValueError, match="`levels` must be numbers above 0 and below 1"):
            fitted.quantile(predictions, levels)
    for given, rows in (
        (y[:3], predictions),
        (y, np.zeros((9, 4))),
        (y[:, None, None], predictions),
    ):
        with pytest.raises(ValueError, match="Received"):
            fitted.cdf(given, rows)
    for given in (np.zeros(0), np.full(9, np.nan)):
        with pytest.raises(ValueError, match="without NaN"):
            kr.analysis.QuantileRecalibration().fit(given, predictions[: len(given)])
    with pytest.raises(ValueError, match=r"\(n, 1\), one for each level"):
        kr.analysis.ConformalQuantiles([0.5]).fit(y, predictions)
    with pytest.raises(ValueError, match="method"):
        kr.analysis.QuantileRecalibration("isotonic")


def test_predictions_of_a_model_are_taken_as_they_are():
    model = keras.Sequential([keras.Input((3,)), kr.layers.GaussianMixture(2)])
    x, y = normal(40, 3), normal(40, seed=1)
    predictions = model.predict(x, verbose=0)
    fitted = kr.analysis.QuantileRecalibration("kde").fit(y, predictions)
    assert error(fitted.cdf(y, predictions)) < 0.05
