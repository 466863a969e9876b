"""Spectral: the largest singular value of float64, its direction, and what stays finite."""

import keras
import numpy as np
import pytest

from keras_regularize.regularizers import Spectral
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients


def evaluate(regularizer, w):
    value, gradient = values_and_gradients(lambda w: regularizer(w))(cast(w, "float32"))
    return float(to_numpy(value)), to_numpy(gradient)


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
        value, gradient = evaluate(Spectral(*settings, iterations=iterations), w)
        np.testing.assert_allclose(value, expected[0], rtol=1e-4)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-3, atol=1e-3)


def test_few_iterations_come_close_from_below():
    w = np.random.default_rng(1).normal(size=(40, 30))
    norms = [evaluate(Spectral(1.0, 0.0, 1, iterations=n), w)[0] ** 0.5 for n in (1, 5, 20)]
    exact = np.linalg.norm(w, 2)
    assert norms[0] < norms[1] < norms[2] <= exact * 1.0001 and norms[2] > 0.95 * exact


def test_diagonal_is_the_largest_scale():
    gamma = np.array([0.5, -2.0, 1.0])
    value, gradient = evaluate(Spectral(0.5, diagonal=True), gamma)
    np.testing.assert_allclose(value, 0.5 * (4 - 1) ** 2, rtol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0.5 * 2 * 3 * 2 * -2.0, 0], rtol=1e-6)
    assert evaluate(Spectral(1.0, diagonal=True), np.ones(3))[0] == 0


@pytest.mark.parametrize("settings", [{}, {"power": 1}, {"iterations": 3}, {"diagonal": True}])
def test_zero_and_orthogonal_kernels(settings):
    value, gradient = evaluate(Spectral(0.5, **settings), np.zeros((4, 3)))
    assert value == 0.5 and (gradient == 0).all()
    if "diagonal" not in settings:
        q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))
        # All singular values are equal: no derivative of an eigenvector exists.
        value, gradient = evaluate(Spectral(1.0, **settings), q)
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
        ({"power": 0}, "`power` must be positive"),
        ({"iterations": 0}, "`iterations` must be an integer of at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Spectral(**arguments)
