"""HyperSparse: the slope against the formula, and where it acts."""

import numpy as np
import pytest

from keras_regularize.regularizers import HyperSparse
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients


def slope(w, factor=1.0, sparsity=0.9, dtype="float32"):
    evaluate = values_and_gradients(HyperSparse(factor, sparsity).__call__)
    value, gradient = evaluate(cast(w, dtype))
    assert float(to_numpy(value)) == 0.0
    return to_numpy(gradient)


def oracle(w, factor, sparsity):
    sizes = np.abs(np.asarray(w, "float64"))
    s = 0.6585 / np.sort(sizes, axis=None)[min(int(sparsity * sizes.size), sizes.size - 1)]
    share = sizes.sum() / np.tanh(s * sizes).sum()
    return factor * np.sign(w) * s / np.cosh(s * sizes) ** 2 * share


@pytest.mark.parametrize("shape, sparsity", [((6, 5), 0.7), ((2, 2, 2, 3), 0.0), ((9,), 1.0)])
def test_slope_equals_the_formula(shape, sparsity):
    w = np.random.default_rng(0).normal(size=shape)
    expected = oracle(w, 0.5, sparsity)
    # The scale of the weights does not matter. The slope of tanh, 1 - tanh², ends at the last digit of 1.
    for scale in (1.0, 1e3, 1e-8):
        np.testing.assert_allclose(
            slope(scale * w, 0.5, sparsity), expected, rtol=1e-4, atol=1e-5 * expected.max()
        )


def test_small_weights_are_pulled_and_large_ones_let_go():
    w = np.sort(np.random.default_rng(1).normal(size=200) ** 3)
    sizes = np.abs(w)
    found = np.abs(slope(w, sparsity=0.8))
    order = np.argsort(sizes)
    assert (np.diff(found[order]) <= 1e-6).all()
    assert (
        found[order[:100]].min() > 0.9 * found.max()
        and found[order[-10:]].max() < 0.1 * found.max()
    )


def test_zeros_stay():
    w = np.array([[0.0, 1.0], [0.0, -2.0], [0.0, 0.5]])
    for sparsity in (0.2, 0.9):  # Also where the threshold itself is zero.
        found = slope(w, sparsity=sparsity)
        assert (found[:, 0] == 0).all() and np.isfinite(found).all()
    assert (slope(np.zeros((3, 2))) == 0).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="`sparsity` must be a number at least 0 and at most 1"):
        HyperSparse(sparsity=1.5)
    with pytest.raises(ValueError, match="`factor` must be a number at least 0"):
        HyperSparse(-1)
