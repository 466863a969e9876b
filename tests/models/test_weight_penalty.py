import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

X, Y = np.random.RandomState(0).rand(16, 4).astype("float32"), np.zeros((16, 1), "float32")


@keras.saving.register_keras_serializable("tests")
def joint_norm(weights):
    return kr.numerics.global_norm(weights)


def network(regularizer=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, kernel_regularizer=regularizer),
            layers.Dense(1, kernel_regularizer=regularizer),
        ]
    )


def train(model, epochs=2):
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model.fit(X, Y, epochs=epochs, batch_size=16, shuffle=False, verbose=0).history["loss"]


def test_a_regularizer_on_kernels_equals_keras_own():
    net, own = network(), network(keras.regularizers.L2(0.05))
    wrapped = kr.models.WeightPenalty(net, keras.regularizers.L2(0.5), factor=0.1)
    np.testing.assert_allclose(train(wrapped), train(own), rtol=1e-5)
    for a, b in zip(net.get_weights(), own.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_joint_penalty_selection_and_schedule():
    net = network()
    kernels = [w for w in net.get_weights() if w.ndim == 2]
    plain = train(network(), epochs=1)[0]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.25, 0.0])
    model = kr.models.WeightPenalty(net, joint_norm, schedule)
    expected = plain + 0.25 * np.sqrt(sum((w**2).sum() for w in kernels))
    assert train(model, epochs=1)[0] == pytest.approx(expected, rel=1e-5)
    biases = kr.models.WeightPenalty(network(), joint_norm, where="bias")
    assert train(biases, epochs=1)[0] == pytest.approx(plain, rel=1e-5)


def test_penalty_is_at_the_perturbed_weights_under_sam():
    own = kr.models.SAM(network(keras.regularizers.L2(0.05)), rho=0.5)
    ours = kr.models.SAM(kr.models.WeightPenalty(network(), keras.regularizers.L2(0.05)), rho=0.5)
    np.testing.assert_allclose(train(ours, 3), train(own, 3), rtol=1e-5)


def test_saves(tmp_path):
    model = kr.models.WeightPenalty(network(), joint_norm, 0.5, where=None)
    train(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.penalty is joint_norm and loaded.where is None
    assert train(loaded) == train(model)


def test_nothing_chosen_is_an_error_that_leaves_the_weights():
    net = network()
    before = net.get_weights()
    with pytest.raises(ValueError, match="No trainable variable matches `where='kernels'`"):
        train(kr.models.WeightPenalty(net, lambda w: ops.sum(w[0]), where="kernels"))
    np.testing.assert_array_equal(before[0], net.get_weights()[0])
