"""LAWN: norms that stay, and what is free to move."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize.optimizers import LAWN
from keras_regularize.testing._common import to_numpy

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
RNG = np.random.default_rng(0)
W = RNG.normal(size=(2, 2, 1, 3)).astype("float32")
GRADS = [RNG.normal(size=W.shape).astype("float32") for _ in range(4)]


def run(optimizer, gradients, start=W, name="kernel"):
    variable, path = keras.Variable(start, name=name), []
    for g in gradients:
        optimizer.apply([ops.convert_to_tensor(np.asarray(g, "float32"))], [variable])
        path.append(to_numpy(variable))
    return path


def test_norms_are_free_and_then_constant():
    norms = [np.linalg.norm(w) for w in run(LAWN(Adam(0.1), 2), GRADS)]
    assert abs(norms[1] - norms[0]) > 1e-3
    np.testing.assert_allclose(norms[2:], norms[1], rtol=1e-6)


def test_what_stays_free():
    plain = run(Adam(0.1), GRADS)
    for optimizer in (LAWN(Adam(0.1), 4), LAWN(Adam(0.1), 0, where="bias")):
        np.testing.assert_array_equal(run(optimizer, GRADS), plain)
    bias = [g[0, 0, 0] for g in GRADS]
    np.testing.assert_array_equal(
        run(LAWN(Adam(0.1), 0), bias, W[0, 0, 0]), run(Adam(0.1), bias, W[0, 0, 0])
    )


def test_a_radial_gradient_moves_nothing_and_a_zero_kernel_is_free_until_it_is_not():
    np.testing.assert_allclose(run(LAWN(SGD(0.1), 0), [5 * W, -3 * W])[-1], W, rtol=1e-5)
    path = run(LAWN(SGD(0.1), 0), [0 * W, *GRADS[:2]], start=0 * W)
    np.testing.assert_array_equal(path[0], 0)
    np.testing.assert_allclose(path[1], -0.1 * GRADS[0], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path[2]), np.linalg.norm(path[1]), rtol=1e-6)


def test_logits_of_separable_data_stay_bounded():
    x = RNG.normal(size=(32, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    norms = {}
    for name, optimizer in {"plain": Adam(0.1), "lawn": LAWN(Adam(0.1), 8)}.items():
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
        net.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        net.fit(np.tile(x, (8, 1)), np.tile(y, 8), batch_size=32, shuffle=False, verbose=0)
        early = np.linalg.norm(net.get_weights()[0])
        net.fit(np.tile(x, (100, 1)), np.tile(y, 100), batch_size=32, shuffle=False, verbose=0)
        norms[name] = np.linalg.norm(net.get_weights()[0]) / early
    assert norms["lawn"] == pytest.approx(1, rel=1e-5) and norms["plain"] > 3


def test_bad_arguments():
    with pytest.raises(ValueError, match="`free_steps` must be an integer of at least 0"):
        LAWN(SGD(0.1), 0.5)
    with pytest.raises(ValueError, match="`where` must be the name of a variable, a list of names"):
        LAWN(SGD(0.1), 1, where=2)
