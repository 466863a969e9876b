"""The log-barrier relative of softmax: its sums, limits and tails."""

import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.activations import log_barrier_simplex
from keras_regularize.testing._common import to_numpy

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [1, 2, 1000])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 100.0, 1e4])
def test_the_optimum_is_found(classes, scale):
    x = scale * RANDOM.normal(size=(20, classes)).astype("float32")
    p = to_numpy(log_barrier_simplex(x)).astype("float64")
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-4)
    # `1 / p + x` is the same everywhere, up to rounding of the largest.
    levels = 1 / p + x
    np.testing.assert_allclose(np.ptp(levels, axis=-1) / np.abs(levels).max(axis=-1), 0, atol=1e-5)


def test_invariances_and_limits():
    x = RANDOM.normal(size=(5, 7)).astype("float32")
    p = to_numpy(log_barrier_simplex(x))
    np.testing.assert_allclose(to_numpy(log_barrier_simplex(x + 3)), p, rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(p), np.argsort(x))
    np.testing.assert_allclose(to_numpy(log_barrier_simplex(x, 1e-5)), 1 / 7, rtol=1e-3)
    assert (to_numpy(log_barrier_simplex(x, 1e5)).max(axis=-1) > 0.99).all()
    np.testing.assert_allclose(to_numpy(log_barrier_simplex(x.T, axis=0)).T, p, rtol=1e-5)
    masked = to_numpy(log_barrier_simplex(np.array([0.0, -np.inf, 0.0], "float32")))
    np.testing.assert_allclose(masked, [0.5, 0, 0.5])


def test_tails_fall_like_the_gap():
    p = to_numpy(log_barrier_simplex(np.array([[0.0, -1e3], [0.0, -1e4]], "float32")))
    assert p[0, 1] / p[1, 1] == pytest.approx(10, rel=1e-2)


def test_the_jacobian_is_that_of_the_formula():
    x = RANDOM.normal(size=5).astype("float32")
    p = to_numpy(log_barrier_simplex(x, 0.7)).astype("float64")
    expected = 0.7 * p[:, None] ** 2 * (np.eye(5) - p**2 / np.sum(p**2))
    for a in range(5):
        gradient = kr.autodiff.grad(lambda x: log_barrier_simplex(x, 0.7)[a])(x)  # noqa: B023
        np.testing.assert_allclose(to_numpy(ops.stop_gradient(gradient)), expected[a], atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="`learning_rate` must be a number above 0"):
        log_barrier_simplex(np.ones(3), 0.0)
