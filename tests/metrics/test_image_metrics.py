"""Metrics of depths and images against the formulas."""

import numpy as np
import pytest

import keras_regularize as kr

RNG = np.random.default_rng(0)
Y, P = RNG.uniform(0.2, 4, (2, 5, 6, 7)).astype("float32")


def result(metric, *arguments, **columns):
    metric.update_state(*arguments, **columns)
    return float(metric.result())


@pytest.mark.everywhere
@pytest.mark.parametrize("absent", [0.0, -1.0, np.nan, np.inf])
def test_errors_of_depths_are_means_over_images_of_means_over_measured_pixels(absent):
    there = RNG.random(Y.shape) < 0.7
    there[2] = False  # Does not count.
    y, wild = np.where(there, Y, absent), np.where(there, P, np.nan)
    relative, right = [], []
    for image, p, kept in zip(Y, P, there):
        if kept.any():
            image, p = image[kept], p[kept]
            relative.append(np.mean(np.abs(p - image) / image))
            right.append(np.mean(np.maximum(p / image, image / p) < 1.5))
    metrics = kr.metrics.AbsoluteRelativeError, lambda: kr.metrics.ThresholdAccuracy(1.5)
    for metric, values in zip(metrics, (relative, right)):
        assert result(metric(), y, wild) == pytest.approx(np.mean(values), rel=1e-5)
        assert result(metric(), y[..., None], wild) == pytest.approx(np.mean(values), rel=1e-5)
        weight = np.array([1.0, 0.0, 5.0, 0.5, 2.0])
        found = result(metric(), y, wild, sample_weight=weight)
        expected = np.average(values, weights=weight[[0, 1, 3, 4]])
        assert found == pytest.approx(expected, rel=1e-5)
        assert np.isnan(result(metric(), Y, wild))
        assert result(metric(), 0 * Y, P) == 0.0
        with pytest.raises(ValueError, match="Expected weights, or a mask, that fit"):
            metric().update_state(y, P, sample_weight=there)
        with pytest.raises(ValueError, match="must have the shape of `y_pred`"):
            metric().update_state(y[:, :3], P)


def test_depths_that_are_not_positive_are_wrong():
    p = np.array([[-1.0, 0.0, 1.0, 1.24, 1.26, 0.81, 0.79]], "float32")
    found = result(kr.metrics.ThresholdAccuracy(), np.ones_like(p), p)
    assert found == pytest.approx(3 / 7)
    with pytest.raises(ValueError, match="`threshold` must be a number above 1"):
        kr.metrics.ThresholdAccuracy(1.0)


@pytest.mark.everywhere
def test_the_signal_to_noise_ratio_is_a_mean_over_images():
    x, y = RNG.uniform(0, 255, (2, 4, 6, 7, 3)).astype("float32")
    y[1] = x[1]
    expected = [
        10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in zip(x[[0, 2, 3]], y[[0, 2, 3]])
    ]
    metric = kr.metrics.PeakSignalToNoiseRatio(255)
    kept = np.array([1.0, 0.0, 1.0, 1.0])
    assert result(metric, x, y, sample_weight=kept) == pytest.approx(np.mean(expected), rel=1e-5)
    metric.reset_state()
    assert result(metric, x, y) == pytest.approx(np.mean([*expected, 120.0]), rel=1e-5)
    metric.reset_state()
    bytes_ = x.astype("uint8")
    assert result(metric, bytes_, bytes_) == pytest.approx(120.0)
    with pytest.raises(ValueError, match="Images of integers need `max_value`"):
        kr.metrics.PeakSignalToNoiseRatio().update_state(bytes_, bytes_)
