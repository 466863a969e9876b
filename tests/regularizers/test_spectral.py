"""Spectral: the largest singular value of float64, its direction, and what stays finite."""

import keras
import numpy as np
import pytest

from keras_regularize.regularizers import Spectral
from keras_regularize.testing._common import to_numpy
from tests.helpers import evaluate_regularizer


def oracle(w, factor, target, power):
    matrix = w.reshape(-1, w.shape[-1])
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    error = s[0] ** power - target
    slope = 2 * factor * error * power * s[0] ** (power - 1) * np.outer(u[:, 0], vt[0])
    return factor * error**2, slope.reshape(w.shape)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 2, 2, 3), (5,)])
@pytest.mark.parametrize("settings", [(0.5, 1.0, 2), (2.0, 0.0, 1), (1.0, 0.7, 3)])
def test_value_and_gradient_are_those_of_the_first_singular_value(shape, settings):
    w = np.random.default_rng(0).normal(size=shape)
    expected = oracle(w, *settings)
    for iterations in (None, 200):
        value, gradient = evaluate_regularizer(Spectral(*settings, iterations=iterations), w)
        np.testing.assert_allclose(value, expected[0], rtol=1e-4)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-3, atol=1e-3)


def test_few_iterations_come_close_from_below():
    w = np.random.default_rng(1).normal(size=(40, 30))
    norms = [
        evaluate_regularizer(Spectral(1.0, 0.0, 1, iterations=n), w)[0] ** 0.5 for n in (1, 5, 20)
    ]
    exact = np.linalg.norm(w, 2)
    assert norms[0] < norms[1] < norms[2] <= exact * 1.0001 and norms[2] > 0.95 * exact


@pytest.mark.parametrize("power", [2, 1, 3])
def test_each_entry_of_a_diagonal_counts_by_itself(power):
    gamma = np.array([0.5, -2.0, 1.0, 0.5])
    value, gradient = evaluate_regularizer(Spectral(0.5, power=power, diagonal=True), gamma)
    errors = np.abs(gamma) ** power - 1
    slopes = 0.5 * 2 * errors * power * np.abs(gamma) ** (power - 1) * np.sign(gamma)
    np.testing.assert_allclose(value, 0.5 * (errors**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6)
    assert evaluate_regularizer(Spectral(1.0, diagonal=True), np.ones(3))[0] == 0
    shifts = evaluate_regularizer(Spectral(2.0, target=0.0, diagonal=True), gamma)[0]
    np.testing.assert_allclose(shifts, 2 * (gamma**4).sum(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(65, 65), (300, 120), (3, 3, 16, 200)])
def test_large_kernels_equal_an_svd(shape):
    w = np.random.default_rng(4).normal(size=shape)
    w = (w / np.sqrt(np.prod(shape[:-1]))).astype("float32").astype("float64")
    value, slope = oracle(w, 1.0, 0.5, 2)
    found = evaluate_regularizer(Spectral(1.0, 0.5), w)
    np.testing.assert_allclose(found[0], value, rtol=1e-5)
    assert np.linalg.norm(found[1] - slope) < 1e-4 * np.linalg.norm(slope)


def test_large_kernels_of_low_rank_and_with_equal_singular_values():
    rng = np.random.default_rng(5)
    q, _ = np.linalg.qr(rng.normal(size=(100, 100)))
    for w, norm in [(2.0 * q, 2.0), (np.eye(90), 1.0), (np.diag(np.arange(80.0) % 3), 2.0)]:
        np.testing.assert_allclose(
            evaluate_regularizer(Spectral(1.0, 0.0, 1), w)[0], norm**2, rtol=1e-5
        )
    one = np.outer(rng.normal(size=70), rng.normal(size=80))
    np.testing.assert_allclose(
        evaluate_regularizer(Spectral(1.0, 0.0, 1), one)[0], np.linalg.norm(one) ** 2, rtol=1e-5
    )


@pytest.mark.parametrize("settings", [{}, {"power": 1}, {"iterations": 3}, {"diagonal": True}])
def test_zero_and_orthogonal_kernels(settings):
    for shape in [(4, 3), (80, 70)]:
        value, gradient = evaluate_regularizer(Spectral(0.5, **settings), np.zeros(shape))
        terms = np.prod(shape) if "diagonal" in settings else 1
        assert value == 0.5 * terms and (gradient == 0).all()
    if "diagonal" not in settings:
        q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))
        # All singular values are equal: no derivative of an eigenvector exists.
        value, gradient = evaluate_regularizer(Spectral(1.0, **settings), q)
        assert value < 1e-10 and np.abs(gradient).max() < 1e-4


def test_training_holds_the_norm_and_lets_the_other_directions_free():
    x = np.random.default_rng(3).normal(size=(64, 4)).astype("float32")
    y = np.float32(x @ np.diag([5.0, 0.8, 0.5, 0.2]))
    steps = np.tile(x, (150, 1)), np.tile(y, (150, 1))
    layer = keras.layers.Dense(4, use_bias=False, kernel_regularizer=Spectral(20.0))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(2e-3), "mse")
    model.fit(*steps, batch_size=64, shuffle=False, verbose=0)
    s = np.linalg.svd(to_numpy(layer.kernel), compute_uv=False)
    assert abs(s[0] - 1) < 0.1 and s[-1] < 0.8, s


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"factor": -1}, "`factor` must be a number at least 0"),
        ({"target": -1}, "`target` must be a number at least 0"),
        ({"power": 0}, "`power` must be a number above 0"),
        ({"iterations": 0}, "`iterations` must be an integer of at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Spectral(**arguments)
