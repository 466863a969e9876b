"""AccordionBlock: two dense layers, and the F1-norm in the model's loss."""

import keras
import numpy as np
import pytest

from keras_regularize.analysis import f1_norm
from keras_regularize.layers import AccordionBlock
from keras_regularize.testing._common import to_numpy


def test_value_and_penalty_equal_the_formula():
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    layer = AccordionBlock(6, 2, factor=0.5)
    layer.build((None, 2, 3))
    layer.hidden.bias.assign(np.linspace(-1, 1, 6))
    w, c, v, b = map(to_numpy, layer.weights)
    np.testing.assert_allclose(
        to_numpy(layer(x)), np.maximum(x @ w + c, 0) @ v + b, rtol=1e-4, atol=1e-5
    )
    expected = sum(
        np.linalg.norm(v[i]) * np.sqrt((w[:, i] ** 2).sum() + c[i] ** 2) for i in range(6)
    )
    np.testing.assert_allclose(to_numpy(sum(layer.losses)), 0.5 * expected, rtol=1e-5)
    assert AccordionBlock(6, 2)(x).shape == (4, 2, 2)


def test_the_penalty_leaves_few_units():
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    y = np.abs(x)  # Two ReLUs.
    steps = np.tile(x, (400, 1)), np.tile(y, (400, 1))
    active = {}
    for factor in (0.0, 0.01):
        keras.utils.set_random_seed(0)
        block = AccordionBlock(32, 1, factor=factor)
        model = keras.Sequential([keras.Input((1,)), block])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(*steps, batch_size=64, shuffle=False, verbose=0)
        w, c, v, _ = map(to_numpy, block.weights)
        sizes = np.linalg.norm(v, axis=1) * np.sqrt((w**2).sum(axis=0) + c**2)
        active[factor] = int((sizes > 0.05 * sizes.max()).sum())
        norm = float(to_numpy(f1_norm(w, v, c)))
    assert active[0.01] < active[0.0] and norm < 2.5, (active, norm)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`hidden_units` must be an integer of at least 1"):
        AccordionBlock(0, 1)
    with pytest.raises(ValueError, match="`units` must be an integer of at least 1"):
        AccordionBlock(1, 0)
    with pytest.raises(ValueError, match="`factor` must be a number at least 0"):
        AccordionBlock(1, 1, -1)
