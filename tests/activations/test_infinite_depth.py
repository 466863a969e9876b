"""Activations of deep classifiers: moments under a normal distribution, duals, and saving."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.activations import (
    Hermite,
    NormalizedSine,
    SingularKernel,
    hermite,
    normalized_sine,
    singular_kernel,
)
from keras_regularize.testing._common import to_numpy

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def duals(activation, z):
    """`E[φ(u) φ(v)]` for standard normal `u`, `v` with correlation `z`."""
    other = z * NODES[:, None] + np.sqrt(1 - z * z) * NODES
    first = to_numpy(activation(NODES.astype("float32"))).astype("float64")
    second = to_numpy(activation(other.astype("float32"))).astype("float64")
    return WEIGHTS @ (first[:, None] * second) @ WEIGHTS


def dual_of_sine(z, frequency):
    return np.sinh(frequency * z) / np.sinh(frequency)


@pytest.mark.parametrize("z", [-0.4, 0.0, 0.7, 1.0])
@pytest.mark.parametrize(
    "activation, dual",
    [
        (Hermite([0.0, 0.6, 0.8]), lambda z: 0.36 * z + 0.64 * z**2),
        (SingularKernel(1), lambda z: 0.5 * z + 0.5 * z**7),
        (SingularKernel(2), lambda z: 0.5 * z + 0.5 * z**3),
        (SingularKernel(5), lambda z: 2**-2.5 * (z + z**3) + (1 - 2**-1.5) * z**2),
        (NormalizedSine(1.0), lambda z: dual_of_sine(z, 1.0)),
        (NormalizedSine(3.0), lambda z: dual_of_sine(z, 3.0)),
    ],
)
def test_the_dual_activation_is_that_of_the_formula(activation, dual, z):
    assert duals(activation, z) == pytest.approx(dual(z), abs=1e-4)


def test_the_exponent_of_the_singular_kernel_is_the_dimension():
    for dimension in (1, 2, 3, 8):
        squares = np.square(kr.activations.infinite_depth.singular_kernel_coefficients(dimension))
        slope = np.polynomial.Polynomial(squares).deriv()
        assert -2 * np.log(slope(0)) / np.log(slope(1)) == pytest.approx(dimension)


def test_limits_and_integers():
    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(to_numpy(normalized_sine(x, 1e-9)), x, rtol=1e-5)
    assert np.isfinite(to_numpy(normalized_sine(x, 2000.0))).all()
    np.testing.assert_allclose(to_numpy(hermite(np.array([2, 3]), [1.0, 2.0])), [5, 7])
    np.testing.assert_allclose(to_numpy(hermite(x)), to_numpy(singular_kernel(x)))


def test_arguments_are_saved_with_a_model(tmp_path):
    inputs = keras.Input((3,))
    x = hermite(keras.layers.Dense(4, SingularKernel(4))(inputs), [0.1, 0.9])
    x = singular_kernel(keras.layers.Dense(4, NormalizedSine(2.0))(x), 3)
    model = keras.Model(inputs, normalized_sine(x, 0.5))
    data = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = model.predict(data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(data, verbose=0), expected, rtol=1e-6)
    dense = [layer for layer in loaded.layers if isinstance(layer, keras.layers.Dense)]
    assert dense[0].activation.dimension == 4 and dense[1].activation.frequency == 2.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: hermite(np.ones(3), []), "must not be empty"),
        (lambda: Hermite([]), "must not be empty"),
        (lambda: Hermite(0.5), "must be a list of numbers"),
        (lambda: Hermite(["a"]), "`coefficients` must be a number"),
        (lambda: singular_kernel(np.ones(3), 0), "`dimension` must be an integer of at least 1"),
        (lambda: SingularKernel(2.5), "`dimension` must be an integer"),
        (lambda: normalized_sine(np.ones(3), 0.0), "`frequency` must be a number above 0"),
        (lambda: NormalizedSine(-1.0), "`frequency` must be a number above 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
