"""The calibration error of predicted distributions, against its definition."""

import statistics

import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import normal, number

LEVEL = float(np.log(np.expm1(1.0)))  # Softplus of it is 1.


def error_of(y, y_pred, sample_weight=None, **arguments):
    metric = kr.metrics.ProbabilisticCalibrationError(**arguments)
    metric.update_state(y, y_pred, sample_weight)
    return number(metric.result())


def standard(count):
    return np.tile([0.0, LEVEL], (count, 1)).astype("float32")


def test_the_extremes_of_the_error():
    levels = (np.arange(20) + 0.5) / 20
    quantile = np.vectorize(statistics.NormalDist().inv_cdf)
    for shift in (-1e-6, 1e-6):  # Just within their level, and in the next one.
        y = quantile(levels + shift).astype("float32")
        expected = np.abs(levels - (np.arange(20) + (shift < 0)) / 20).mean()
        assert error_of(y, standard(20), levels=20) == pytest.approx(expected, rel=1e-5)
    for far in (1e4, -1e4):
        assert error_of(np.full(20, far), standard(20), levels=20) == pytest.approx(0.5, rel=1e-5)
    assert np.isnan(error_of(np.where(levels < 0.1, np.nan, 0.0), standard(20), levels=20))
    assert error_of(np.zeros(0), np.zeros((0, 2)), levels=20) == 0.0


def test_weights_and_masks_say_what_counts():
    y, y_pred = normal(4, 3), normal(4, 3, 2, seed=1)
    y[0, 1], y_pred[1, 2] = np.nan, 0.0
    weight = np.where(np.isnan(y), 0.0, 1.0).astype("float32")
    weight[2] = 2.0
    masked = keras.layers.Masking(0.0)(y_pred)
    kept = (weight > 0) & np.any(y_pred != 0, axis=-1)
    repeated = np.repeat(np.arange(kept.sum()), weight[kept].astype(int))
    expected = error_of(y[kept][repeated], y_pred[kept][repeated], levels=30)
    assert error_of(y, masked, weight, levels=30) == pytest.approx(expected, rel=1e-5)
    samples = np.array([0.0, 1.0, 1.0, 0.5], "float32")  # One weight per sequence.
    each = np.repeat(samples[:, None], 3, axis=1)
    assert error_of(y, y_pred, samples) == pytest.approx(error_of(y, y_pred, each), rel=1e-6)


def test_mixtures_and_what_does_not_fit():
    y, y_pred = normal(9), normal(9, 2, seed=1)
    mixture = np.concatenate([np.zeros((9, 1)), y_pred], axis=-1)
    assert error_of(y, mixture) == pytest.approx(error_of(y[:, None], y_pred), rel=1e-6)
    with pytest.raises(ValueError, match="Received"):
        error_of(y, normal(9, 4))
    with pytest.raises(ValueError, match="Received"):
        error_of(y[:4], y_pred)
    for arguments in ({"power": 0.0}, {"levels": 0}, {"cdf": 3}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            kr.metrics.ProbabilisticCalibrationError(**arguments)
