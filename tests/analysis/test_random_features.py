"""Deep random features: coefficients, covariances, and the error of ridge regression on them."""

import math

import keras
import numpy as np
import pytest

from keras_regularize import analysis
from keras_regularize.layers import RandomFeatures


@pytest.mark.parametrize("variance", [0.3, 2.0])
def test_closed_forms(variance):
    relu = analysis.activation_coefficients("relu", variance)
    mean = math.sqrt(variance / (2 * math.pi))
    rest = math.sqrt(variance / 2 - mean**2 - variance / 4)
    np.testing.assert_allclose(relu, [mean, 0.5, rest, variance / 2], rtol=1e-5)
    sign = analysis.activation_coefficients("sign", variance)
    linear = math.sqrt(2 / (math.pi * variance))
    np.testing.assert_allclose(sign, [0, linear, math.sqrt(1 - 2 / math.pi), 1], atol=1e-6)
    cubic = analysis.activation_coefficients(lambda z: z**3, variance)
    expected = [0, 3 * variance, math.sqrt(6 * variance**3), 15 * variance**3]
    np.testing.assert_allclose(cubic, expected, rtol=1e-5, atol=1e-6)
    assert analysis.activation_coefficients("linear", variance).kappa_star == 0


def by_weights(widths, activations, samples, ridge, noise, draws=20):
    """The same error with the eigenvalues of sampled weights, the ridge found by bisection."""
    random, errors = np.random.default_rng(0), []
    for _ in range(draws):
        kernels = [random.normal(size=shape) for shape in zip(widths, widths[1:])]
        omega = np.linalg.eigvalsh(analysis.linearized_feature_covariance(kernels, activations))
        low, high = 0.0, ridge + omega.sum() / samples
        for _ in range(80):
            kappa = (low + high) / 2
            above = kappa * (1 - np.sum(omega / (omega + kappa)) / samples) > ridge
            low, high = (low, kappa) if above else (kappa, high)
        bias = kappa**2 * np.mean(omega / (omega + kappa) ** 2)
        left = 1 - np.sum((omega / (omega + kappa)) ** 2) / samples
        errors.append((bias + noise) / left)
    return np.mean(errors)


@pytest.mark.parametrize(
    "widths, activations, samples",
    [([150, 200, 180], ["tanh", "erf"], 100), ([200, 150], ["linear"], 300)],
)
def test_the_error_is_that_of_sampled_weights(widths, activations, samples):
    given = analysis.deep_random_features_error(widths, activations, samples, 0.05, 0.1)
    expected = by_weights(widths, activations, samples, 0.05, 0.1)
    assert given.test_error == pytest.approx(expected, rel=0.02)


def test_simulated_networks_have_the_error():
    random = np.random.default_rng(0)
    widths, samples, ridge, noise, errors = [60, 80, 50], 80, 0.05, 0.1, []
    for _ in range(60):
        kernels = [random.normal(size=shape) for shape in zip(widths, widths[1:])]
        h = random.normal(size=(samples + 1000, widths[0]))
        for kernel in kernels:
            h = np.tanh(h @ kernel / np.sqrt(len(kernel)))
        y = h @ random.normal(size=50) / np.sqrt(50)
        y = y + np.sqrt(noise) * random.normal(size=len(y))
        train, test = h[:samples], h[samples:]
        gram = train.T @ train + samples * ridge * np.eye(50)
        w = np.linalg.solve(gram, train.T @ y[:samples])
        errors.append(np.mean((test @ w - y[samples:]) ** 2))
    given = analysis.deep_random_features_error(widths, ["tanh", "tanh"], samples, ridge, noise)
    assert np.mean(errors) == pytest.approx(given.test_error, rel=0.03)


def test_the_error_of_known_weights_is_that_of_the_formula_without_any():
    random = np.random.default_rng(0)
    kernels = [random.normal(size=shape) for shape in ((300, 400), (400, 350))]
    omega = analysis.linearized_feature_covariance(kernels, ["tanh", "erf"])
    t = random.normal(size=350) / np.sqrt(350)
    given = analysis.ridge_test_error(omega, t, 200, 0.05, 0.1)
    expected = analysis.deep_random_features_error([300, 400, 350], ["tanh", "erf"], 200, 0.05, 0.1)
    np.testing.assert_allclose(given, expected, rtol=0.05)


def test_a_target_of_other_features_is_simulated():
    random = np.random.default_rng(0)
    root = random.normal(size=(20, 20)) / np.sqrt(20)
    omega, phi, psi = (
        (root @ root.T)[:12, :12],
        (root @ root.T)[:12, 12:],
        (root @ root.T)[12:, 12:],
    )
    theta, samples, ridge, errors = random.normal(size=8), 25, 0.05, []
    for _ in range(400):
        z = random.normal(size=(samples, 20)) @ root.T
        x, y = z[:, :12], z[:, 12:] @ theta + 0.3 * random.normal(size=samples)
        w = np.linalg.solve(x.T @ x + samples * ridge * np.eye(12), x.T @ y)
        error = theta @ psi @ theta - 2 * w @ phi @ theta + w @ omega @ w
        errors.append(error + 0.09)
    given = analysis.ridge_test_error(omega, theta, samples, ridge, 0.09, phi, psi)
    assert np.mean(errors) == pytest.approx(given.test_error, rel=0.05)
    # A target of the same features is no other one.
    same = analysis.ridge_test_error(omega, theta[:8], 30, 0.1, 0.1, omega[:, :8], omega[:8, :8])
    padded = np.concatenate([theta, np.zeros(4)])
    expected = analysis.ridge_test_error(omega, padded, 30, 0.1, 0.1)
    np.testing.assert_allclose(same, expected, rtol=1e-6)


def test_limits_of_the_error_of_ridge_regression():
    t = np.ones(40) / np.sqrt(40)

    def error(samples, ridge):
        return analysis.ridge_test_error(np.eye(40), t, samples, ridge, 0.3)

    assert error(10**6, 0).test_error == pytest.approx(0.3, rel=1e-3)
    assert error(100, 1e6).test_error == pytest.approx(1.3, rel=1e-3)
    assert error(20, 0).degrees_of_freedom == pytest.approx(20, rel=1e-6)
    assert error(40, 1e-6).test_error > 10 * max(
        error(10, 1e-6).test_error, error(400, 0).test_error
    )


def readout_error(samples, activation, widths=(20, 40), ridge=1e-5):
    """Test error of ridge regression on the features of layers that are not trained."""
    random = np.random.default_rng(0)
    errors = []
    for seed in range(8):
        net = keras.Sequential([keras.Input((widths[0],))])
        for i, units in enumerate(widths[1:]):
            net.add(RandomFeatures(units, activation, seed=9 * seed + i))
        x = random.normal(size=(samples + 300, widths[0])).astype("float32")
        h = np.asarray(keras.ops.convert_to_numpy(net(x)), "float64")
        y = h @ random.normal(size=widths[-1]) / np.sqrt(widths[-1])
        y = y + np.sqrt(0.1) * random.normal(size=len(y))
        train, size = h[:samples], widths[-1]
        gram = train.T @ train + samples * ridge * np.eye(size)
        w = np.linalg.solve(gram, train.T @ y[:samples])
        errors.append(np.mean((h[samples:] @ w - y[samples:]) ** 2))
    return np.mean(errors)


def test_layers_are_those_of_the_theory():
    widths = (60, 80, 50)
    expected = analysis.deep_random_features_error(widths, ["tanh", "tanh"], 100, 0.1, 0.1)
    found = readout_error(100, "tanh", widths, 0.1)
    assert found == pytest.approx(expected.test_error, rel=0.06)


@pytest.mark.once
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_errors_descend_twice(activation):
    few, as_many, many = (readout_error(samples, activation) for samples in (15, 40, 160))
    assert as_many > 3 * max(few, many)


def test_limits():
    def error(samples, ridge, noise=0.3):
        return analysis.deep_random_features_error([50, 40], ["tanh"], samples, ridge, noise)

    second = analysis.activation_coefficients("tanh").second_moment
    assert error(10**6, 1e-6).test_error == pytest.approx(0.3, rel=1e-3)
    assert error(100, 1e6).test_error == pytest.approx(second + 0.3, rel=1e-3)
    assert error(20, 0.0).degrees_of_freedom == pytest.approx(20, rel=1e-6)
    assert error(400, 0.0).degrees_of_freedom == pytest.approx(40, rel=1e-6)
    # The peak where as many samples are fitted as there are features.
    assert error(40, 1e-6).test_error > 10 * max(
        error(10, 1e-6).test_error, error(400, 0).test_error
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: analysis.activation_coefficients("tanh", 0.0), "`variance` must be a number"),
        (lambda: analysis.activation_coefficients(keras.ops.log), "must be finite"),
        (lambda: analysis.deep_random_features_error([5, 4], ["relu"], 9, 0.1), "must be odd"),
        (lambda: analysis.ridge_test_error(np.eye(2), np.ones(3), 9, 0.1), "Expected `covariance`"),
        (lambda: analysis.ridge_test_error(-np.eye(2), np.ones(2), 9, 0.1), "semidefinite"),
        (
            lambda: analysis.ridge_test_error(np.eye(2), np.ones(2), 9, 0.1, 0.0, np.eye(2)),
            "belong together",
        ),
        (lambda: analysis.deep_random_features_error([5], [], 9, 0.1), "`widths` must be those"),
        (lambda: analysis.deep_random_features_error([5, 4], ["tanh"], 0, 0.1), "`samples`"),
        (
            lambda: analysis.linearized_feature_covariance(
                [np.ones((3, 2)), np.ones((3, 2))], "ab"
            ),
            "chain of matrices",
        ),
        (
            lambda: analysis.linearized_feature_covariance([np.ones((3, 2))], ["tanh"], np.eye(2)),
            "`input_covariance` must have shape",
        ),
        (
            lambda: analysis.linearized_feature_covariance(
                [np.ones((2, 2))], ["tanh"], np.array([[1.0, 0.5], [0.0, 1.0]])
            ),
            "`input_covariance` must be symmetric",
        ),
        (
            lambda: analysis.ridge_test_error(
                np.eye(2), np.ones(2), 9, 0.1, 0.0, 3 * np.eye(2), np.eye(2)
            ),
            "a target of variance 2, of which 18",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
