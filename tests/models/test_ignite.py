import keras
import numpy as np
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.numerics import global_norm
from tests.models.small import X, mlp

Z = np.sin(3 * X[:, :3])


def compiled(model, rate=0.1):
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def plain_step(make):
    net = make()
    compiled(net).train_on_batch(X, Z)
    return net.get_weights()


def test_a_linear_model_sees_nothing_but_the_factor_moves():
    def linear():
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((6,)), layers.Dense(3)])

    net = linear()
    model = compiled(kr.models.IGNITE(net, rho=0.5, factor=10.0, factor_learning_rate=0.1))
    model.train_on_batch(X, Z)
    for a, b in zip(net.get_weights(), plain_step(linear)):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Of the mean output, the gradient is the mean input a third of it per unit.
    norm = np.sqrt(3 * (np.sum((X.mean(0) / 3) ** 2) + 1 / 9))
    np.testing.assert_allclose(float(model.factor.value), 10 + 0.1 * (0.5 * norm - 1e-3), rtol=1e-6)


def test_it_descends_the_norm_of_the_mean_predictions_gradient():
    def penalty(weights):
        def mean_output(weights):
            return ops.mean(kr.autodiff.Forward(net, weights)(X, training=True))

        return global_norm(kr.autodiff.grad(mean_output)(weights))

    net = mlp()
    before = net.get_weights()
    weights = [v.value for v in net.trainable_variables]
    exact = [np.asarray(g) for g in map(_numpy, kr.autodiff.grad(penalty)(weights))]
    model = kr.models.IGNITE(net, rho=0.5, step=1e-2, factor=2.0, factor_learning_rate=0.0)
    compiled(model).train_on_batch(X, Z)
    for old, new, plain, g in zip(before, net.get_weights(), plain_step(mlp), exact):
        np.testing.assert_allclose(plain - new, 0.1 * 2.0 * 0.5 * g, atol=3e-3)
        assert np.abs(old - new).max() > 1e-4
    assert float(model.factor.value) == 2.0


def test_a_constant_prediction_has_no_direction():
    class Cut(layers.Layer):
        def call(self, x):
            return ops.stop_gradient(x)

    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((6,)), layers.Dense(3), Cut()])
    before = net.get_weights()
    model = compiled(kr.models.IGNITE(net, factor=1.0, factor_learning_rate=0.1, threshold=0.5))
    model.train_on_batch(X, Z)
    for a, b in zip(before, net.get_weights()):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(float(model.factor.value), 1.0 - 0.05, rtol=1e-6)


def test_several_outputs_count_alike():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    outputs = {"a": layers.Dense(1, name="a")(inputs), "b": layers.Dense(2, name="b")(inputs)}
    net = keras.Model(inputs, outputs)
    model = kr.models.IGNITE(net, rho=1.0, threshold=0.0, factor=0.0, factor_learning_rate=1.0)
    model.compile("sgd", {"a": "mse", "b": "mse"})
    model.fit(X, {"a": Z[:, :1], "b": Z[:, :2]}, batch_size=48, verbose=0)
    square = np.sum(X.mean(0) ** 2) + 1  # Of one unit's mean output.
    expected = np.sqrt(square * (1 / 4 + 2 / 16))
    np.testing.assert_allclose(float(model.factor.value), expected, rtol=1e-5)


def _numpy(tensor):
    return ops.convert_to_numpy(ops.stop_gradient(tensor))
