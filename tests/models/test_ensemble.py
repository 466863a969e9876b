"""Several models as one."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

X = np.random.RandomState(0).rand(5, 4).astype("float32")


def members(count=3, units=3):
    keras.utils.set_random_seed(0)
    return [keras.Sequential([keras.Input((4,)), layers.Dense(units)]) for _ in range(count)]


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("units", [3, 1])
def test_means(units):
    nets = members(units=units)
    z = np.stack([ops.convert_to_numpy(net(X)) for net in nets])
    mean = kr.models.Ensemble(nets)(X)
    np.testing.assert_allclose(ops.convert_to_numpy(mean), z.mean(0), rtol=1e-5, atol=1e-6)
    mean = ops.convert_to_numpy(kr.models.Ensemble(nets, average="probabilities")(X))
    if units == 1:
        np.testing.assert_allclose(1 / (1 + np.exp(-mean)), (1 / (1 + np.exp(-z))).mean(0), 1e-5)
    else:
        np.testing.assert_allclose(softmax(mean), softmax(z).mean(0), rtol=1e-5)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_equal_members_are_one_and_constants_do_not_count(average):
    net, twin = members(2)
    twin.set_weights(net.get_weights())
    twin.layers[0].bias.assign_add([5.0] * 3)
    single = ops.convert_to_numpy(ops.softmax(net(X)))
    both = ops.convert_to_numpy(ops.softmax(kr.models.Ensemble([net, twin], average)(X)))
    np.testing.assert_allclose(both, single, rtol=1e-5)


def test_extreme_logits_saving_and_use_as_a_teacher(tmp_path):
    nets = members(2)
    nets[0].layers[0].kernel.assign(1e4 * np.sign(nets[0].layers[0].kernel))
    ensemble = kr.models.Ensemble(nets, average="probabilities")
    before = ensemble.predict(X, verbose=0)
    assert np.isfinite(before).all()
    ensemble.save(tmp_path / "ensemble.keras")
    after = keras.models.load_model(tmp_path / "ensemble.keras").predict(X, verbose=0)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    student = kr.models.Distillation(members(1)[0], ensemble)
    student.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(student.fit(X, np.arange(5) % 3, verbose=0).history["loss"]).all()


def test_wrong_arguments():
    net = members(1)[0]
    for wrong in ([], [net, "net"], [net, net], net, None):
        with pytest.raises(ValueError, match="`members` must be"):
            kr.models.Ensemble(wrong)
    with pytest.raises(ValueError, match="`average`"):
        kr.models.Ensemble([net], average="median")
