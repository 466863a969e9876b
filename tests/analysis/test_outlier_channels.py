"""Outlier channels: the ratio of the formula, in nested and convolutional models."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize.analysis import outlier_channels


def test_channels_above_the_ratio_are_found():
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(50, 12)))
    x[:, 4] *= 30
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8), layers.Dense(2)])
    means = np.abs(x).mean(axis=0)
    ratio = means[4] / means.mean()
    for factor, expected in ((0.999, [4]), (1.001, [])):
        found = outlier_channels(model, x, ratio * factor, batch_size=7)
        assert list(found) == [layer.path for layer in model.layers]
        assert found[model.layers[0].path].tolist() == expected
    assert "call" not in vars(model.layers[0])


def test_nested_models_and_images():
    images = np.ones((2, 5, 5, 16), "float32")
    images[..., 3] = -100
    inner = keras.Sequential([keras.Input((5, 5, 16)), layers.Conv2D(3, 2), layers.ReLU()])
    outputs = layers.Dense(2)(layers.GlobalAveragePooling2D()(inner(inner.inputs[0])))
    model = keras.Model(inner.inputs, outputs)
    found = outlier_channels(model, images)
    assert found[inner.layers[0].path].tolist() == [3] and len(found) == 2


def test_bad_arguments():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="`ratio` must be a number above 0"):
        outlier_channels(model, np.ones((2, 3)), ratio=-1)
    with pytest.raises(ValueError, match="`ratio` must be a number above 0"):
        outlier_channels(model, np.ones((2, 3)), ratio=0)
    with pytest.raises(ValueError, match="at least one sample"):
        outlier_channels(model, np.ones((0, 3)))
