import math

import numpy as np
import pytest

from keras_regularize.analysis import gaussian_cutoff

LABELS = np.array([0, 0, 0, 1, 1, 1])


def with_moments(low, spread, high, other):
    """Six logits of which the classes have exactly these means and deviations."""
    z = np.array([-1.0, 0.0, 1.0])
    return np.concatenate([low + spread * z, high + other * z])


def mistakes(cut, low, spread, high, other):
    """Of a cut between two Gaussians, the classes weighing the same."""
    upper = 0.5 * math.erfc((cut - low) / (spread * 2**0.5))
    return upper + 0.5 * math.erfc((high - cut) / (other * 2**0.5))


@pytest.mark.parametrize(
    "moments",
    [
        (-1, 1, 2, 0.5),
        (-1, 0.5, 2, 1),
        (0, 1, 1e-3, 30),
        (0, 1, 0.2, 0.1),
        (1e4, 1, 1e4 + 3, 1.001),
    ],
)
def test_no_other_cut_makes_fewer_mistakes(moments):
    low, spread, high, other = moments
    cut = gaussian_cutoff(with_moments(*moments), LABELS)
    grid = np.linspace(low - 6 * spread - 6 * other, high + 6 * spread + 6 * other, 2001)
    least = min(mistakes(x, *moments) for x in grid)
    assert mistakes(cut, *moments) <= least + 1e-9
    ratio = [math.log(s) + 0.5 * ((cut - m) / s) ** 2 for m, s in (moments[:2], moments[2:])]
    assert ratio[0] == pytest.approx(ratio[1], abs=1e-6)
    # Flipped scores are cut at the flipped place.
    assert gaussian_cutoff(-with_moments(*moments), LABELS) == pytest.approx(-cut)


def test_equal_deviations_give_the_midpoint_and_no_spread_its_mean():
    assert gaussian_cutoff(with_moments(-1, 2, 5, 2), LABELS) == pytest.approx(2)
    near = gaussian_cutoff(with_moments(-1, 2, 5, 2 + 1e-9), LABELS[:, None])
    assert near == pytest.approx(2)
    assert gaussian_cutoff(with_moments(-1, 2, 5, 0), LABELS) == 5
    assert gaussian_cutoff(with_moments(-1, 0, 5, 2), LABELS) == -1
    assert gaussian_cutoff([1.0, 3.0], [0, 1]) == 2
    assert gaussian_cutoff(np.ones(6), LABELS) == 1


def test_errors():
    with pytest.raises(ValueError, match="a label for each logit. Received: 6 labels for 5"):
        gaussian_cutoff(np.zeros(5), LABELS)
    with pytest.raises(ValueError, match="at least one sample. Received: 5 of class 0, 0 of"):
        gaussian_cutoff(np.zeros(5), np.zeros(5))
