"""Linear experts with a gate, their likelihood, and the Lasso."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy
from tests.helpers import normal, softmax


def test_the_parameters_of_the_model():
    layer = kr.layers.GaussianMixtureOfExperts(2, 3)
    x = normal(4, 5)
    outputs = to_numpy(layer(x))
    layer.log_scales.assign(np.arange(6, dtype="float32"))
    gate, experts = (list(map(to_numpy, part.weights)) for part in (layer.gate, layer.experts))
    np.testing.assert_allclose(outputs[:, :2], x @ gate[0], atol=1e-5)
    np.testing.assert_allclose(outputs[:, 2:8], x @ experts[0], atol=1e-5)
    np.testing.assert_allclose(to_numpy(layer(x))[:, 8:], [np.arange(6)] * 4)
    varied = kr.layers.GaussianMixtureOfExperts(2, 3, heteroscedastic=True)
    assert varied(x).shape == (4, 14) and len(varied.trainable_variables) == 6


def test_one_expert_is_a_gaussian_and_order_does_not_matter():
    y, predicted = normal(5, 2), normal(5, 15, seed=1)
    values = to_numpy(kr.losses.MixtureOfExpertsNLL(3, reduction="none")(y, predicted))
    gate, means, scales = np.split(predicted, [3, 9], axis=-1)
    means, scales = means.reshape(5, 3, 2), np.exp(scales).reshape(5, 3, 2)
    density = np.exp(-0.5 * ((y[:, None] - means) / scales) ** 2) / scales / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
        values, -np.log(np.sum(softmax(gate) * density.prod(-1), axis=-1)), rtol=1e-4
    )
    turn = [2, 0, 1]
    turned = [gate[:, turn], means[:, turn].reshape(5, 6), np.log(scales)[:, turn].reshape(5, 6)]
    again = kr.losses.MixtureOfExpertsNLL(3, reduction="none")(y, np.concatenate(turned, axis=-1))
    np.testing.assert_allclose(again, values, rtol=1e-5)
    one = kr.losses.MixtureOfExpertsNLL(1)(y[:, 0], normal(5, 3))
    assert np.isfinite(float(one))
    with pytest.raises(ValueError, match="K = 2 experts"):
        kr.losses.MixtureOfExpertsNLL(2)(y, predicted)


@pytest.mark.rotating
def test_the_lasso_helps_with_many_features():
    """Of 50 features three count; 200 samples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 50)).astype("float32")
    slope = np.where(x[:, 0] > 0, 2.0 * x[:, 1], -2.0 * x[:, 2])
    y = (slope + 0.3 * rng.normal(size=1200)).astype("float32")[:, None]
    losses, kernels = {}, {}
    for factor in (0.0, 0.05):
        keras.utils.set_random_seed(0)
        lasso = keras.regularizers.L1(factor)
        layer = kr.layers.GaussianMixtureOfExperts(2, 1, lasso, lasso)
        model = keras.Sequential([layer])
        loss = kr.losses.MixtureOfExpertsNLL(2)
        model.compile(keras.optimizers.Adam(0.02), loss)
        model.fit(x[:200], y[:200], batch_size=200, epochs=100, verbose=0)
        losses[factor] = float(to_numpy(loss(y[200:], model(x[200:]))))
        kernels[factor] = np.abs(to_numpy(layer.experts.kernel)).max(axis=1)
    assert losses[0.05] < losses[0.0] - 0.2, losses
    assert set(np.argsort(kernels[0.05])[-2:]) == {1, 2}


@pytest.mark.once
def test_the_bound_by_hand():
    """One sample and unit bounds: no logarithms are left."""
    bound = kr.analysis.moe_lasso_bound(1, 50, 1, 2, 1.0, 0.0, 1.0, kappa=1.0)
    np.testing.assert_allclose(bound, 2 * 1 * (1 + 2 * 5))
    more = kr.analysis.moe_lasso_bound(10_000, 50, 1, 2, 1.0, 1.0, 1.0)
    log_n = np.log(1e4)
    expected = 148 * 2 * 3 * (1 + 2 * (5 + 4 * log_n)) / 100 * (log_n * np.sqrt(np.log(101)) + 1)
    np.testing.assert_allclose(more, expected)
    with pytest.raises(ValueError, match="`covariance_bound` must be"):
        kr.analysis.moe_lasso_bound(10, 5, 1, 2, 0.0, 1.0, 1.0)
