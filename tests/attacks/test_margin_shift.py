import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr


@pytest.mark.parametrize("last", [None, "softmax"])
def test_moves_the_margins_of_a_linear_model_as_far_as_the_ball_allows(last):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 2)).astype("float32")
    dense = keras.layers.Dense(2, activation=last)
    model = keras.Sequential([keras.Input((6,)), dense])
    dense.set_weights([kernel, np.zeros(2, "float32")])
    x, y = rng.normal(size=(5, 6)).astype("float32"), np.array([0, 1, 1, 0, 0])
    attack = kr.attacks.PGD(
        0.1, 0.05, 5, loss="margin_shift", bounds=None, from_logits=last is None, seed=0
    )
    moved = ops.convert_to_numpy(attack(model, x, y)) - x
    # One margin, linear in the inputs: the corner along its weights, or the opposite one.
    corner = 0.1 * np.sign(kernel[:, 1] - kernel[:, 0])
    np.testing.assert_allclose(np.abs(moved @ corner), 6 * 0.01, rtol=1e-4)


def test_needs_labels():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="'margin_shift' needs labels"):
        kr.attacks.PGD(loss="margin_shift")(model, np.zeros((2, 6), "float32"))
