"""The distance transform against SciPy, by SciPy and in a graph."""

import numpy as np
import pytest
from keras import ops
from scipy import ndimage

import keras_regularize as kr
from keras_regularize.ops import distances
from tests.helpers import array

SPACES = {"1-D": (11,), "2-D": (7, 9), "3-D": (4, 5, 6)}
SAMPLING = (0.5, 2.0, 1.5)


def masks(space):
    mask = np.random.default_rng(0).random((3, *space)) < 0.8
    mask[1] = False
    return mask


@pytest.mark.everywhere
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_distances_are_those_of_scipy(space, sampled):
    mask = masks(SPACES[space])
    sampling = SAMPLING[: mask.ndim - 1] if sampled else None
    expected = [ndimage.distance_transform_edt(m, sampling) for m in mask]
    got = kr.ops.euclidean_distance_transform(mask.astype("float32"), sampling)
    np.testing.assert_allclose(array(got), expected, rtol=1e-6)
    steps = sampling or [1.0] * (mask.ndim - 1)
    got = distances.in_graph(ops.convert_to_tensor(mask), steps)  # Whatever can be looked at.
    np.testing.assert_allclose(array(got), expected, rtol=1e-6)


@pytest.mark.everywhere
def test_a_mask_without_zeros_and_an_empty_batch():
    full = np.ones((2, 3, 4), "float32")
    np.testing.assert_array_equal(array(kr.ops.euclidean_distance_transform(full)), 0 * full)
    got = distances.in_graph(ops.convert_to_tensor(full), [1.0, 1.0])
    np.testing.assert_array_equal(array(got), 0 * full)
    assert tuple(kr.ops.euclidean_distance_transform(full[:0]).shape) == (0, 3, 4)


def test_a_distance_of_thousands_of_pixels_is_exact():
    mask = np.ones((1, 2, 3000), "float32")
    mask[0, 0, 0] = 0
    got = array(distances.in_graph(ops.convert_to_tensor(mask), [1.0, 1.0]))
    assert got[0, 0, -1] == 2999
    np.testing.assert_allclose(got[0, 1, -1], np.hypot(2999, 1), rtol=1e-7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(batch, \*spatial\)"):
        kr.ops.euclidean_distance_transform(np.ones(3))
    with pytest.raises(ValueError, match="one number per axis of space, 2"):
        kr.ops.euclidean_distance_transform(np.ones((1, 3, 3)), sampling=[1.0])
