"""The Bures-Wasserstein distance as loss and regularizer, its critical values, and metrics.FrechetDistance."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.testing._common import float_width
from tests.helpers import array, evaluate_loss, evaluate_regularizer, normal, number

SPECTRUM = np.array([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])


def rotation(size, seed=0):
    return np.linalg.qr(normal(size, size, seed=seed).astype("float64"))[0]


def covariances(count, size, seed=0):
    x = normal(count, size, 2 * size, seed=seed)
    return x @ np.swapaxes(x, 1, 2) / (2 * size)


def distance(a, b, **arguments):
    return evaluate_loss(kr.losses.BuresWasserstein(reduction="none", **arguments), a, b)


def with_spectrum():
    turn = rotation(6)
    return (turn * SPECTRUM) @ turn.T


def test_a_distance():
    a, b = covariances(3, 4), covariances(3, 4, seed=1)
    value, gradient = distance(a, a)
    np.testing.assert_allclose(value, 0.0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-3)
    np.testing.assert_allclose(distance(a, b)[0], distance(b, a)[0], rtol=1e-4)
    np.testing.assert_allclose(distance(3 * a, 3 * b)[0], 3 * distance(a, b)[0], rtol=1e-4)
    turn = rotation(4).astype("float32")
    turned = distance(turn @ a @ turn.T, turn @ b @ turn.T, epsilon=0.1)[0]
    np.testing.assert_allclose(turned, distance(a, b, epsilon=0.1)[0], rtol=1e-4)
    # The smoothed loss has its zero below the target.
    value, gradient = distance(a, a - 0.01 * np.eye(4), epsilon=0.01)
    np.testing.assert_allclose(value, 0.0, atol=1e-5)


def test_diagonal_and_repeated_eigenvalues():
    a, b = np.array([[4.0, 4, 1, 0], [1, 1, 1, 1]]), np.array([[1.0, 1, 9, 0], [0, 0, 0, 0]])
    value, gradient = distance(*(x[:, :, None] * np.eye(4) for x in (a, b)), epsilon=0.25)
    expected = np.square(np.sqrt(a) - np.sqrt(b + 0.25)).sum(1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    expected = 1 - np.sqrt(a / (b + 0.25))
    np.testing.assert_allclose(gradient, expected[:, :, None] * np.eye(4), rtol=1e-4, atol=1e-5)
    # Without rank, and without smoothing: what is there has its gradient, all is finite.
    value, gradient = distance(*(x[:, :, None] * np.eye(4) for x in (a, b)))
    np.testing.assert_allclose(value, np.square(np.sqrt(a) - np.sqrt(b)).sum(1), rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 0, 0], -1.0, rtol=1e-4)
    assert np.isfinite(gradient).all()
    one = np.eye(2)
    assert np.isnan(distance(one[None], one[None] * np.nan)[0]).all()
    width = float_width()
    wide = kr.losses.BuresWasserstein(dtype=width)(one[None], 4.0 * one[None])
    assert number(wide) == pytest.approx(2.0, rel=1e-12 if width == "float64" else 1e-6)
    for wrong in (np.ones((2, 2)), np.ones((1, 2, 3)), np.ones((1, 3, 3))):
        with pytest.raises(ValueError, match=r"Expected covariances \(batch, d, d\)"):
            distance(one[None], wrong)
    with pytest.raises(ValueError, match="`epsilon` must be a number at least 0"):
        kr.losses.BuresWasserstein(-1.0)


@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_the_penalty_of_a_kernel_is_the_loss_of_its_covariance(epsilon):
    covariance, kernel = with_spectrum(), normal(8, 6)
    penalty = kr.regularizers.BuresWasserstein(covariance, 0.5, epsilon)
    value, gradient = evaluate_regularizer(penalty, kernel)
    loss = kr.losses.BuresWasserstein(epsilon)
    run = kr.autodiff.value_and_grad(
        lambda k: 0.5 * loss(covariance[None], ops.matmul(ops.transpose(k), k)[None])
    )
    expected, slope = run(ops.convert_to_tensor(kernel))
    assert value == pytest.approx(number(expected), rel=1e-4)
    np.testing.assert_allclose(gradient, array(slope), rtol=1e-2, atol=1e-3)


def test_kernels_without_rank_and_wrong_ones():
    penalty = kr.regularizers.BuresWasserstein(np.diag([4.0, 1.0]))
    value, gradient = evaluate_regularizer(penalty, np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert value == pytest.approx(2.0, rel=1e-5) and np.isfinite(gradient).all()
    assert gradient[0, 0] == pytest.approx(-2.0, rel=1e-5)
    assert np.isnan(evaluate_regularizer(penalty, np.full((1, 2), np.nan))[0])
    with pytest.raises(ValueError, match=r"Expected a kernel \(in, 2\)"):
        penalty(np.ones((2, 3), "float32"))
    for wrong in ([[1.0, 2.0]], [[1.0, 0.5], [0.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]], [[np.nan]]):
        with pytest.raises(ValueError, match="`covariance` must be"):
            kr.regularizers.BuresWasserstein(wrong)


def test_critical_values_are_those_of_all_choices():
    covariance = with_spectrum()
    found = kr.analysis.bures_critical_values(covariance, 3)
    assert found.minimum == pytest.approx(0.8)
    assert found.values[0] == pytest.approx(0.8) and found.kept[0] == (0, 1, 2)
    assert len(found.values) == 1 + 6 + 15 + 20 and (np.diff(found.values) >= 0).all()
    for value, kept in zip(found.values, found.kept):
        assert value == pytest.approx(SPECTRUM.sum() - SPECTRUM[list(kept)].sum())
    loss = kr.losses.BuresWasserstein()
    assert number(loss(covariance[None], found.minimizer[None])) == pytest.approx(0.8, rel=1e-4)
    smoothed = kr.analysis.bures_critical_values(covariance, 3, epsilon=0.1)
    loss = kr.losses.BuresWasserstein(0.1)
    value = number(loss(covariance[None], smoothed.minimizer[None]))
    assert value == pytest.approx(smoothed.minimum, rel=1e-3)
    expected = np.square(np.sqrt(SPECTRUM[3:]) - np.sqrt(0.1)).sum()
    assert smoothed.minimum == pytest.approx(expected)
    with pytest.raises(ValueError, match="at most the smallest eigenvalue"):
        kr.analysis.bures_critical_values(covariance, 3, epsilon=0.2)
    with pytest.raises(ValueError, match="at least 1 and at most 6"):
        kr.analysis.bures_critical_values(covariance, 7)
    with pytest.raises(ValueError, match="at most 100000 critical points"):
        kr.analysis.bures_critical_values(np.eye(30), 15)


class LinearGenerator(keras.Model):
    """Three linear layers, whose covariance for white noise is a loss of their product."""

    def __init__(self, covariance):
        super().__init__()
        self.penalty = kr.regularizers.BuresWasserstein(covariance)
        # Balanced: orthogonal kernels of one size.
        self.kernels = [
            self.add_weight(
                shape=shape, initializer=keras.initializers.Orthogonal(0.9, seed=i), name=f"k{i}"
            )
            for i, shape in enumerate([(3, 3), (3, 3), (3, 6)])
        ]

    def product(self):
        first, second, third = (ops.convert_to_tensor(k) for k in self.kernels)
        return ops.matmul(ops.matmul(first, second), third)

    def call(self, noise):
        kernel = self.product()
        self.add_loss(self.penalty(kernel))
        return ops.matmul(noise, kernel)


@pytest.mark.rotating
def test_a_deep_linear_generator_reaches_the_least_critical_value():
    covariance = with_spectrum()
    model = LinearGenerator(covariance)
    model.compile(keras.optimizers.SGD(0.03), jit_compile=False)
    noise = np.zeros((64, 3), "float32")
    history = model.fit(noise, batch_size=1, epochs=5, verbose=0).history
    expected = kr.analysis.bures_critical_values(covariance, 3)
    value = number(model.penalty(model.product()))
    assert value == pytest.approx(expected.minimum, abs=1e-3), history
    product = array(model.product())
    np.testing.assert_allclose(product.T @ product, expected.minimizer, atol=0.05)


# The metric


def extractor(size=4, features=3):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((size,)), layers.Dense(features, "tanh")])


def frechet(a, b):
    """By the eigenvalues of the product of the covariances, as most implementations have it."""
    means = a.mean(0) - b.mean(0)
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(c @ d).real, 0.0)).sum()
    return means @ means + np.trace(c) + np.trace(d) - 2 * roots


@pytest.mark.everywhere
def test_the_metric_is_the_distance_of_all_features():
    network = extractor()
    metric = kr.metrics.FrechetDistance(network)
    real, generated = normal(60, 4), 2 * normal(60, 4, seed=1) + 0.5
    for rows in (slice(0, 7), slice(7, 60)):
        metric.update_state(real[rows], generated[rows])
    a, b = (network.predict(x, verbose=0).astype("float64") for x in (real, generated))
    assert number(metric.result()) == pytest.approx(frechet(a, b), rel=1e-3)
    metric.reset_state()
    metric.update_state(real, real)
    assert number(metric.result()) == pytest.approx(0.0, abs=1e-5)


def test_large_means_cost_no_digits_and_weights_are_numbers():
    identity = keras.Sequential([keras.Input((3,)), layers.Identity()])
    metric = kr.metrics.FrechetDistance(identity)
    real, generated = normal(40, 3), normal(40, 3, seed=1)
    expected = frechet(real.astype("float64"), generated.astype("float64"))
    metric.update_state(real + 1000, generated + 1000)
    assert number(metric.result()) == pytest.approx(expected, rel=1e-2)
    metric.reset_state()
    weights = np.ones(41, "float32")
    weights[-1] = 0
    wild = np.full((1, 3), np.nan, "float32")
    metric.update_state(np.vstack([real, wild]), np.vstack([generated, wild]), weights)
    assert number(metric.result()) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="must be a built functional or sequential model"):
        kr.metrics.FrechetDistance(keras.Sequential([layers.Dense(2)]))


def test_it_measures_models_and_is_saved_with_its_weights(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    model.compile("sgd", "mse", metrics=[kr.metrics.FrechetDistance(extractor())])
    x = normal(20, 4)
    expected = model.evaluate(x, x, verbose=0)
    assert expected[1] > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.evaluate(x, x, verbose=0), expected, rtol=1e-5)
