import numpy as np
import pytest

from keras_regularize.analysis import private_bag_means


def test_means_get_the_noise_of_the_guarantee():
    rng = np.random.default_rng(0)
    y = rng.normal(0, 2, size=200_000)
    noise = private_bag_means(y, 4, epsilon=0.8, clip=1.5, seed=1) - np.clip(y, -1.5, 1.5).reshape(
        -1, 4
    ).mean(1)
    scale = 2 * 1.5 / (4 * 0.8)
    # Laplace: the mean distance from 0 is the scale, the variance twice its square.
    assert np.mean(np.abs(noise)) == pytest.approx(scale, rel=0.02)
    assert np.var(noise) == pytest.approx(2 * scale**2, rel=0.05)
    assert np.mean(noise) == pytest.approx(0, abs=0.02)


def test_one_response_moves_one_mean_by_no_more_than_the_sensitivity():
    y = np.zeros((12, 2))
    moved = y.copy()
    y[5], moved[5] = -1e9, 1e9
    difference = np.subtract(*(private_bag_means(v, 3, 1.0, 2.0, seed=0) for v in (moved, y)))
    expected = np.zeros((4, 2))
    expected[1] = 2 * 2.0 / 3
    np.testing.assert_allclose(difference, expected)


def test_seeds_and_little_noise():
    y = np.linspace(-1, 1, 8)
    draws = [private_bag_means(y, 2, 1.0, 1.0, seed) for seed in (3, 3, 4, None, None)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert len({tuple(draw) for draw in draws}) == 4
    means = private_bag_means(y, 2, 1e9, 1.0)
    np.testing.assert_allclose(means, y.reshape(4, 2).mean(1), atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bag_size": 0}, "`bag_size` must be an integer"),
        ({"bag_size": 3}, "a multiple of `bag_size`.*\\(8,\\), bag_size=3"),
        ({"epsilon": 0}, "`epsilon` must be a number above 0"),
        ({"clip": -1}, "`clip` must be a number above 0"),
    ],
)
def test_errors(change, message):
    arguments = {"y": np.zeros(8), "bag_size": 2, "epsilon": 1.0, "clip": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        private_bag_means(**arguments)
