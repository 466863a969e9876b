"""Masked: pruned weights stay zero, in every kind of training."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize.optimizers import LOBSTER, IrrelevantWeightDecay, Masked
from keras_regularize.testing._common import to_numpy

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = RNG.normal(size=(16, 2)).astype("float32")
MASK = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]])


def model(optimizer, **options):
    keras.utils.set_random_seed(3)
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(2)])
    net.compile(optimizer, "mse", **options)
    net.optimizer.build(net.trainable_variables)
    return net


def test_masked_weights_are_zero_and_the_others_train_alone():
    # The oracle: a step of Adam on the weights that are left, as a vector of their own.
    w, *steps = RNG.normal(size=(4, 4, 3)).astype("float32")
    kept = MASK != 0
    few, all_of_it = keras.Variable(w[kept]), keras.Variable(w)
    alone, optimizer = Adam(0.1, clipnorm=0.5), Masked(Adam(0.1, clipnorm=0.5))
    optimizer.build([all_of_it])
    optimizer.set_masks([MASK])
    np.testing.assert_array_equal(to_numpy(all_of_it), w * kept)
    for g in steps:
        alone.apply([ops.convert_to_tensor(g[kept])], [few])
        optimizer.apply([ops.convert_to_tensor(g)], [all_of_it])
    np.testing.assert_array_equal(to_numpy(all_of_it)[~kept], 0)
    np.testing.assert_allclose(to_numpy(all_of_it)[kept], to_numpy(few), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Masked(SGD(0.1, momentum=0.9)),
        lambda: LOBSTER(Adam(0.01), 0.01),
        lambda: IrrelevantWeightDecay(Masked(Adam(0.01)), 0.01),
    ],
)
def test_zeros_last_through_compiled_steps_new_masks_and_saving(tmp_path, make):
    # Several steps to an execution, where the backend has that, and masks set when it is compiled already.
    net = model(make(), steps_per_execution=1 if keras.backend.backend() == "torch" else 2)
    masked = net.optimizer if hasattr(net.optimizer, "set_masks") else net.optimizer.optimizer
    net.fit(X, Y, batch_size=4, verbose=0)
    masked.set_masks([MASK, None, None, None])
    net.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    kernel = net.get_weights()[0]
    np.testing.assert_array_equal(kernel[MASK == 0], 0)
    assert (kernel[MASK == 1] != 0).all()

    net.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    for each in (net, restored):
        each.fit(X, Y, batch_size=4, verbose=0, shuffle=False)
    np.testing.assert_array_equal(restored.get_weights()[0][MASK == 0], 0)
    for one, other in zip(net.get_weights(), restored.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_masks_and_their_errors():
    net = model(Masked(SGD(0.1)))
    assert all(mask.all() for mask in net.optimizer.get_masks())
    net.optimizer.set_masks([MASK, None, None, np.array([0.5, 0])])
    kept = [mask.mean() for mask in net.optimizer.get_masks()]
    assert kept == [pytest.approx(7 / 12), 1, 1, 0.5]
    with pytest.raises(ValueError, match="each of the 4 trainable variables. Received 1"):
        net.optimizer.set_masks([MASK])
    with pytest.raises(ValueError, match=r"must have its shape \(4, 3\)"):
        net.optimizer.set_masks([MASK.T, None, None, None])
    with pytest.raises(ValueError, match="knows no variables yet"):
        Masked(SGD(0.1)).set_masks([])
