"""The shape of distributions: moments of weights, and of activations over channels."""

import keras
import numpy as np
import pytest

from keras_regularize.analysis import outlier_channels
from keras_regularize.regularizers import ActivationKurtosis, WeightDistribution
from keras_regularize.testing._common import to_numpy
from tests.helpers import evaluate_regularizer, to_be_divided


def test_moments_of_weights_equal_the_formula_at_any_shift_and_scale():
    w = np.random.default_rng(0).normal(size=(3, 2, 4)) ** 3
    z = (w - w.mean()) / w.std(ddof=1)
    expected = 0.5 * ((z**4).mean() - 2) ** 2 + 0.1 * ((z**3).mean() - 0.5) ** 2
    regularizer = WeightDistribution(0.5, 0.1, 2.0, 0.5)
    for given in (w, 100 * w, 1e-20 * w, 1e18 * w, w + 5):
        value, gradient = evaluate_regularizer(regularizer, given)
        np.testing.assert_allclose(value, expected, rtol=1e-3)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(gradient.sum(), 0, atol=1e-4 * np.abs(gradient).sum())


def test_evenly_spread_weights_are_the_target():
    w = np.linspace(-1, 1, 4001)
    assert evaluate_regularizer(WeightDistribution(1.0), w)[0] < 1e-5


@pytest.mark.parametrize("w", [np.full((3, 2), 0.7), np.zeros(4), np.ones(1)])
def test_equal_weights_have_no_slope(w):
    value, gradient = evaluate_regularizer(WeightDistribution(1.0, 2.0, 1.8, 0.5), w)
    np.testing.assert_allclose(value, 1.8**2 + 2 * 0.25, rtol=1e-6)
    assert (gradient == 0).all()


@pytest.mark.parametrize(
    "shape, axis", [((3, 6), -1), ((2, 4, 3, 5), 3), ((2, 5, 3), 1), ((6, 3), 0), ((5, 2, 3), -3)]
)
@pytest.mark.parametrize("target", [None, 1.8])
def test_kurtosis_of_activations_equals_a_loop(shape, axis, target):
    x = np.random.default_rng(1).normal(size=shape)
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    values = [(((r - r.mean()) / np.sqrt(r.var() + 1e-3)) ** 4).mean() for r in rows]
    values = values if target is None else [(k - target) ** 2 for k in values]
    expected = to_be_divided(0.5 * np.mean(values), shape[0])
    regularizer = ActivationKurtosis(0.5, target, axis, 1e-3)
    np.testing.assert_allclose(evaluate_regularizer(regularizer, x)[0], expected, rtol=1e-4)


def test_kurtosis_of_known_activations():
    n = 32
    alternating, one_hot = np.resize([-1.0, 1.0], (1, n)), np.eye(1, n)
    regularizer = ActivationKurtosis(1.0, epsilon=1e-12)
    for x, expected in ((alternating, 1), (one_hot, n - 2 + 1 / (n - 1)), (3 + 2 * one_hot, None)):
        expected = n - 2 + 1 / (n - 1) if expected is None else expected
        np.testing.assert_allclose(evaluate_regularizer(regularizer, x)[0], expected, rtol=1e-3)
    value, gradient = evaluate_regularizer(ActivationKurtosis(1.0), np.full((2, 4), 7.0))
    assert value == 0 and (gradient == 0).all()


def test_training_takes_outlier_channels_away():
    rng = np.random.default_rng(2)
    x = np.float32(rng.normal(size=(128, 6)))
    y = np.float32(x @ rng.normal(size=(6, 2)))
    steps = np.tile(x, (100, 1)), np.tile(y, (100, 1))
    found = []
    for factor in (0.0, 0.3):
        keras.utils.set_random_seed(0)
        regularizer = ActivationKurtosis(factor)
        first = keras.layers.Dense(24, activity_regularizer=regularizer)
        last = keras.layers.Dense(2)
        model = keras.Sequential([keras.Input((6,)), first, last])
        louder = np.where(np.arange(24) == 5, 20.0, 1.0)  # The function of the model stays.
        first.kernel.assign(to_numpy(first.kernel) * louder)
        last.kernel.assign(to_numpy(last.kernel) / louder[:, None])
        assert outlier_channels(model, x)[last.path].tolist() == [5]
        model.compile(keras.optimizers.Adam(0.03), "mse")
        model.fit(*steps, batch_size=128, shuffle=False, verbose=0)
        found.append(outlier_channels(model, x)[last.path].tolist())
    assert found == [[5], []]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: WeightDistribution(-1), "`kurtosis_factor` must be a number at least 0"),
        (lambda: WeightDistribution(skewness_factor=-1), "`skewness_factor` must be a number"),
        (lambda: ActivationKurtosis(epsilon=0), "`epsilon` must be a number above 0"),
        (lambda: ActivationKurtosis(axis=-3)(np.ones((2, 3))), "`axis` must be an axis of the act"),
        (lambda: ActivationKurtosis(axis=2)(np.ones((2, 3))), "`axis` must be an axis of the act"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
