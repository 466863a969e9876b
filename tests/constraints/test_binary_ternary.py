"""Binary and Ternary: no weights of two or three values are closer."""

import itertools

import numpy as np
import pytest

from keras_regularize.constraints import (
    Binary,
    GroupSoftThreshold,
    HardThreshold,
    SoftThreshold,
    Ternary,
)
from keras_regularize.testing._common import fused, to_numpy


def project(constraint, w):
    return to_numpy(fused(lambda w: constraint(w))(np.asarray(w, "float32")))


def closest(group, letters):
    """The best multiple of the best pattern of letters, by trying all patterns."""
    best = np.zeros_like(group)
    for pattern in map(np.array, itertools.product(letters, repeat=len(group))):
        if pattern.any() and pattern @ group > 0:
            candidate = pattern * (pattern @ group) / (pattern @ pattern)
            if ((group - candidate) ** 2).sum() < ((group - best) ** 2).sum():
                best = candidate
    return best


@pytest.mark.parametrize("constraint, letters", [(Binary(), [-1, 1]), (Ternary(), [-1, 0, 1])])
def test_nothing_is_closer(constraint, letters):
    w = np.random.default_rng(0).normal(size=(3, 2, 12)) ** 3
    expected = np.stack([closest(w[..., f].ravel(), letters).reshape(3, 2) for f in range(12)], -1)
    np.testing.assert_allclose(project(constraint, w), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [Binary, Ternary])
@pytest.mark.parametrize("axis", [None, 0, (-2, -1), (1, 0, 2)])
def test_groups_are_those_of_the_axis(kind, axis):
    w = np.random.default_rng(1).normal(size=(4, 3, 2))
    axes = () if axis is None else (axis,) if isinstance(axis, int) else axis
    expected = np.empty_like(w)
    for index in np.ndindex(*[w.shape[a] for a in axes]):
        where = [slice(None)] * 3
        for a, i in zip(axes, index):
            where[a] = i
        group = w[tuple(where)]
        expected[tuple(where)] = project(kind(None), group)
    np.testing.assert_allclose(project(kind(axis), w), expected, rtol=1e-5)


def test_zeros_and_ties():
    np.testing.assert_array_equal(project(Binary(), [[0.0], [2.0]]), [[1.0], [1.0]])
    for w in (np.zeros((3, 2)), np.float32([[2, 0.5], [0, 0.5], [-2, 0.5]])):
        np.testing.assert_array_equal(project(Ternary(), w), w)
    # Equal sizes are kept or dropped together: 2 alone, or all four at 5/4.
    np.testing.assert_allclose(project(Ternary(None), [2.0, 1, -1, 1]), [1.25, 1.25, -1.25, 1.25])


@pytest.mark.parametrize(
    "constraint",
    [Binary(), Ternary(), HardThreshold(0.5), SoftThreshold(0.5), GroupSoftThreshold(0.5)],
)
def test_nan_stays_and_keeps_to_its_filter(constraint):
    w = np.random.default_rng(3).normal(size=(6, 4))
    expected = project(constraint, w)
    for row in range(6):
        bad = w.copy()
        bad[row, 2] = np.nan
        found = project(constraint, bad)
        assert np.isnan(found[row, 2])
        np.testing.assert_array_equal(np.delete(found, 2, 1), np.delete(expected, 2, 1))


def test_bad_axis():
    with pytest.raises(ValueError, match="`axis` must be an integer"):
        Ternary("last")
    with pytest.raises(ValueError, match="`axis` must name axes of the weight"):
        Binary((-2, -1))(np.ones(3, "float32"))
