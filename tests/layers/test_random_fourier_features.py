"""Random Fourier features."""

import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy


def test_inner_products_are_the_gaussian_kernel():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    layer = kr.layers.RandomFourierFeatures(20_000, lengthscale=1.5, outputscale=2.0, seed=0)
    features = to_numpy(layer(x)).astype("float64")
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    kernel = 4.0 * np.exp(-squares / (2 * 1.5**2))
    np.testing.assert_allclose(features @ features.T, kernel, atol=0.15)
    assert len(layer.trainable_weights) == 2


def test_fixed_scales_a_seed_and_any_rank():
    layers = [kr.layers.RandomFourierFeatures(4, trainable_scales=False, seed=1) for _ in range(2)]
    x = np.ones((2, 5, 3), "float32")
    a, b = (to_numpy(layer(x)) for layer in layers)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (2, 5, 4) and not layers[0].trainable_weights
    with pytest.raises(ValueError, match="`lengthscale`"):
        kr.layers.RandomFourierFeatures(4, lengthscale=0.0)
