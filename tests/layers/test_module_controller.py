"""The choice of modules against one with a history that grows."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array, normal


@pytest.mark.everywhere
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis 3")  # A history of one.
def test_sequences_are_steps_with_a_growing_history():
    keras.utils.set_random_seed(0)
    layer, x = kr.layers.ModuleController(6, 3, 2), normal(2, 4, 5)
    logits = array(layer(x))
    model = keras.Sequential([keras.Input((None, 5)), layer])
    model.compile(jit_compile=False)
    np.testing.assert_allclose(model.predict(x, verbose=0), logits, rtol=1e-4, atol=1e-5)
    history = np.zeros((2, 1, 6), "float32")
    for t in range(4):
        expected, _ = layer.step(ops.convert_to_tensor(x[:, t]), ops.convert_to_tensor(history))
        np.testing.assert_allclose(logits[:, t], array(expected), rtol=1e-4, atol=1e-5)
        weights = np.exp(logits[:, t]) / np.exp(logits[:, t]).sum(-1, keepdims=True)
        combination = weights @ array(layer.embeddings)
        history = np.concatenate([history, combination[:, None]], axis=1)


@pytest.mark.rotating
def test_learns_the_part_of_speech():
    rng = np.random.default_rng(0)
    tags = rng.integers(0, 3, (96, 6)).astype("int32")
    shown = np.eye(3, dtype="float32")[tags]
    y = np.where(np.arange(6) == 5, -1, tags)
    keras.utils.set_random_seed(0)
    layer = kr.layers.ModuleController(8, 3, 2)
    model = keras.Sequential([keras.Input((6, 3)), layer])
    model.compile(keras.optimizers.Adam(0.03), kr.losses.PartOfSpeechLoss())
    model.fit(shown, y, batch_size=32, epochs=6, verbose=0)
    found = model.predict(shown, verbose=0).argmax(-1)
    assert np.mean(found == tags) > 0.9


def test_what_the_controller_refuses():
    with pytest.raises(ValueError, match="divisible by `num_heads`"):
        kr.layers.ModuleController(6, 3, 4)
    with pytest.raises(ValueError, match="batch, time, features"):
        kr.layers.ModuleController(6, 3, 2)(normal(2, 5))
