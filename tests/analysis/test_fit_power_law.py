"""Power laws are found again, whatever the unit of the sizes."""

import numpy as np
import pytest

from keras_regularize.analysis import fit_power_law

SIZES = np.array([50.0, 100.0, 300.0, 1000.0, 5000.0])


@pytest.mark.parametrize(
    "law", [(2.5, 0.45, 3.17), (0.4, 1.0, 0.1), (30.0, 0.05, 1.0), (7.0, 2.2, 5.0)]
)
def test_exact_laws_are_recovered(law):
    amplitude, exponent, asymptote = law
    losses = amplitude * SIZES**-exponent + asymptote
    found = fit_power_law(SIZES, losses)
    np.testing.assert_allclose(found, law, rtol=1e-3)
    other = fit_power_law(1e6 * SIZES[::-1], losses[::-1])
    np.testing.assert_allclose(other[1:], law[1:], rtol=1e-3)
    np.testing.assert_allclose(other.amplitude, amplitude * 1e6**exponent, rtol=1e-2)


def test_noise_moves_the_fit_little_and_it_is_the_best():
    noise = 0.002 * np.random.default_rng(0).normal(size=5)
    losses = 2.5 * SIZES**-0.45 + 3.17 + noise
    law = fit_power_law(SIZES, losses)
    assert abs(law.asymptote - 3.17) < 0.02

    def error(a, b, c):
        return ((losses - a * SIZES**-b - c) ** 2).sum()

    for step in np.random.default_rng(1).normal(size=(50, 3)) * 1e-3:
        assert error(*law) <= error(*(law * (1 + step))) + 1e-15


def test_undetermined_laws_warn():
    for losses in (np.ones(5), 1.0 / SIZES, np.log(SIZES)):
        with pytest.warns(UserWarning, match="do not determine a power law"):
            assert np.isfinite(fit_power_law(SIZES, losses)).all()


@pytest.mark.parametrize(
    "sizes, losses, message",
    [
        ([1, 2], [1, 2], "at least three different sizes"),
        ([1, 2, 2], [1, 2, 3], "at least three different sizes"),
        ([0, 1, 2], [1, 2, 3], "`sizes` must be positive"),
        ([1, 2, 3], [1, 2, np.nan], "all numbers finite"),
        ([1, 2, 3], [1, 2], "vectors of the same length"),
    ],
)
def test_errors(sizes, losses, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(sizes, losses)
