"""Importance and effective rates where golden cases do not look."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.analysis import effective_learning_rate, relative_importance
from keras_regularize.testing._common import cast, to_numpy


def test_shares_of_a_unit_add_up_whatever_the_scale():
    rng = np.random.default_rng(0)
    x, kernel = cast(rng.normal(size=(20, 4)), "float32"), cast(rng.normal(size=(4, 3)), "float32")
    shares = to_numpy(relative_importance(x, kernel, normalization="sum"))
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-5)
    scaled = to_numpy(relative_importance(100 * x, kernel, normalization="sum"))
    np.testing.assert_allclose(scaled, shares, rtol=1e-4)
    for normalization in ("sum", "output"):
        assert (to_numpy(relative_importance(0 * x, kernel, None, normalization)) == 0).all()
        assert (to_numpy(relative_importance(x[:0], kernel, None, normalization)) == 0).all()


def test_a_convolution_is_a_dense_layer_on_patches():
    images = cast(np.random.default_rng(1).normal(size=(2, 5, 5, 2)), "float32")
    layer = keras.layers.Conv2D(3, 2)
    outputs = to_numpy(layer(images))
    patches = to_numpy(ops.image.extract_patches(images, 2, strides=1))
    kernel = to_numpy(layer.kernel)
    found = to_numpy(relative_importance(patches, kernel, layer.bias))
    assert found.shape == (2, 2, 2, 3)
    rows = patches.reshape(-1, 8)
    parts = np.abs(rows[:, :, None] * kernel.reshape(8, 3) / outputs.reshape(-1, 1, 3))
    np.testing.assert_allclose(found.reshape(8, 3), parts.mean(axis=0), rtol=1e-3)


def test_shapes_and_choices_are_checked():
    with pytest.raises(ValueError, match="as many features as a filter has weights"):
        relative_importance(np.ones((2, 3), "float32"), np.ones((4, 2), "float32"))
    with pytest.raises(ValueError, match="`normalization` must be one of 'output', 'sum'"):
        relative_importance(np.ones((2, 3)), np.ones((3, 2)), normalization="max")
    for bias in (np.ones(1, "float32"), np.ones((2, 2), "float32")):
        with pytest.raises(ValueError, match="`bias` must have an entry per unit, 2. Received"):
            relative_importance(np.ones((2, 3), "float32"), np.ones((3, 2), "float32"), bias)
    with pytest.raises(ValueError, match="`epsilon` must be a number above 0"):
        relative_importance(np.ones((2, 3)), np.ones((3, 2)), epsilon=0)


def test_rates_of_scaled_weights():
    w = cast(np.random.default_rng(2).normal(size=(3, 4)), "float32")
    for adaptive, power in ((False, 2), (True, 1)):
        rate = float(to_numpy(effective_learning_rate(w, 0.1, adaptive)))
        scaled = float(to_numpy(effective_learning_rate(10 * w, 0.1, adaptive)))
        assert scaled == pytest.approx(rate / 10**power, rel=1e-4)
