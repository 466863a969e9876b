"""Soft and hard thresholds."""

import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy
from tests.helpers import normal


def test_thresholds_by_their_definition():
    x, t = normal(50), 0.5
    soft = np.sign(x) * np.maximum(np.abs(x) - t, 0)
    np.testing.assert_allclose(kr.activations.soft_threshold(x, t), soft, atol=1e-7)
    hard = np.where(np.abs(x) > t, x, 0)
    np.testing.assert_array_equal(kr.activations.hard_threshold(x, t), hard)
    assert to_numpy(kr.activations.hard_threshold(np.float32([0.5, -0.5]), 0.5)).tolist() == [0, 0]


def test_thresholds_may_be_learned():
    x = np.float32([2.0, -2.0, 0.1])
    gradient = kr.autodiff.grad(lambda t: ops.sum(kr.activations.soft_threshold(x, t)))
    np.testing.assert_allclose(to_numpy(gradient(ops.ones((3,)))), [-1.0, 1.0, 0.0])
    for negative in (-1.0, np.float32(-1.0), np.float32([1.0, -1.0, 0.0])):
        with pytest.raises(ValueError, match="`threshold` must be at least 0"):
            kr.activations.soft_threshold(x, negative)
