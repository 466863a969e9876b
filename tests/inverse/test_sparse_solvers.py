"""Sparse solutions of linear equations."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.linear_model import Lasso

import keras_regularize as kr
from keras_regularize import autodiff
from keras_regularize.testing._common import fused, to_numpy
from tests.helpers import normal, tensor


def problem(m=15, n=30, batch=3, seed=0):
    """Matrix, sparse signals and their measurements."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(m, n)) / np.sqrt(m)
    x = rng.normal(size=(batch, n)) * (rng.uniform(size=(batch, n)) < 0.1)
    y = x @ matrix.T + 0.01 * rng.normal(size=(batch, m))
    return tuple(a.astype("float32") for a in (matrix, x, y))


def objective(x, y, matrix, factor):
    x = to_numpy(x)
    errors = np.sum((x @ matrix.T - y) ** 2, axis=-1)
    return 0.5 * errors + factor * np.abs(x).sum(axis=-1)


def solve(name, y, matrix, **options):
    run = fused(lambda y: getattr(kr.inverse, name)(y, matrix, **options))
    return to_numpy(run(ops.convert_to_tensor(y)))


def test_the_lasso_of_scikit_learn():
    matrix, _, y = problem()
    found = solve("fista", y, matrix, factor=0.05, iterations=1000)
    lasso = Lasso(alpha=0.05 / len(matrix), fit_intercept=False, tol=1e-6, max_iter=10_000)
    expected = [lasso.fit(matrix.astype("float64"), row.astype("float64")).coef_ for row in y]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_acceleration_and_limits():
    matrix, _, y = problem()
    values = {
        name: objective(solve(name, y, matrix, factor=0.05, iterations=50), y, matrix, 0.05)
        for name in ("ista", "fista")
    }
    assert np.all(values["fista"] <= values["ista"] * (1 + 1e-5))
    assert np.sum(values["fista"]) < 0.7 * np.sum(values["ista"])
    assert not np.any(solve("ista", y, matrix, factor=100.0, iterations=5))
    free = solve("fista", y, matrix, factor=0.0, iterations=2000)
    np.testing.assert_allclose(free, y @ np.linalg.pinv(matrix).T, atol=2e-3)


def test_one_signal_alone():
    matrix, _, y = problem()
    for name in ("ista", "fista", "iht"):
        one = solve(name, y[0], matrix, factor=0.02, iterations=5)
        np.testing.assert_allclose(
            one, solve(name, y, matrix, factor=0.02, iterations=5)[0], atol=1e-6
        )


@pytest.mark.rotating
def test_the_support_is_found():
    matrix, x, y = problem(m=60, n=60, batch=10)
    x, y = np.sign(x), np.sign(x) @ matrix.T
    for name, factor in (("fista", 0.1), ("iht", 0.02)):
        found = solve(name, y, matrix, factor=factor, iterations=200)
        assert np.mean((np.abs(found) > 0.3) == (x != 0)) > 0.99, name


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"measurements": np.ones(4)}, "Expected a matrix"),
        ({"matrix": np.ones(3)}, "`matrix` must be"),
        ({"matrix": (np.sum, np.sum)}, "`matrix` must be"),
        ({"matrix": 1j * np.ones((3, 5))}, "real numbers"),
        ({"factor": -1.0}, "`factor` must be"),
        ({"step_size": 0.0}, "`step_size` must be"),
        ({"iterations": 0}, "`iterations` must be"),
    ],
)
def test_errors(arguments, message):
    given = {"measurements": np.ones(3), "matrix": np.ones((3, 5)), "factor": 0.1, **arguments}
    with pytest.raises(ValueError, match=message):
        kr.inverse.fista(**given)


@pytest.mark.everywhere
def test_one_signal_alone_through_the_layer():
    matrix, _, y = problem()
    layer = kr.layers.UnfoldedISTA(matrix, 3, 0.1)
    np.testing.assert_allclose(to_numpy(layer(y[0])), to_numpy(layer(y))[0], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_units_of_the_matrix_do_not_matter(scale):
    matrix, _, y = problem()
    found = solve("ista", y, matrix * np.float32(scale), factor=0.05 * scale, iterations=20)
    expected = solve("ista", y, matrix, factor=0.05, iterations=20)
    np.testing.assert_allclose(found * scale, expected, atol=1e-3)


def test_a_matrix_of_zeros_explains_nothing():
    for name in ("ista", "fista", "iht"):
        for factor in (0.0, 0.1):
            found = solve(name, np.ones((2, 3), "float32"), np.zeros((3, 4)), factor=factor)
            np.testing.assert_array_equal(found, np.zeros((2, 4)))


def test_derivatives_go_through_all_iterations():
    """Where none is taken PyTorch keeps no records; what comes out can be differentiated further."""
    matrix, _, y = problem()
    matrix = matrix / np.linalg.norm(matrix, 2)
    solve = functools.partial(kr.inverse.fista, matrix=matrix, factor=0.01, step_size=1.0)

    def total(y):
        return ops.sum(solve(y, iterations=7) ** 2)

    kr.testing.assert_gradient_matches_finite_differences(total, y)
    if keras.backend.backend() != "tensorflow":  # Which has no forward mode in loops.
        direction = normal(*y.shape, seed=4)
        _, gradient = autodiff.value_and_grad(total)(tensor(y))
        _, tangent = autodiff.jvp(total, tensor(y), tensor(direction))
        slope = np.sum(to_numpy(gradient) * direction)
        np.testing.assert_allclose(to_numpy(tangent), slope, rtol=1e-4)
    found = solve(tensor(y), iterations=7)
    _, gradient = autodiff.value_and_grad(lambda w: ops.sum(w * found))(tensor(np.ones(1)))
    np.testing.assert_allclose(to_numpy(gradient), [to_numpy(found).sum()], rtol=1e-5)
