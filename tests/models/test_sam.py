import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.models.small import LOSS, network, quadratic

RNG = np.random.RandomState(0)


def identity_loss(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


def quadratic_step(start, matrix, **arguments):
    layer, net = quadratic(matrix, start)
    model = kr.models.SAM(net, **arguments)
    model.compile(keras.optimizers.SGD(1.0), identity_loss)
    model.fit(np.zeros((4, 1)), np.zeros((4, 1)), verbose=0)
    return np.asarray(start) - layer.w.numpy()


H = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 0.1]])
W = np.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize("rho", [0.0, 0.05, 2.0])
def test_closed_form_on_a_quadratic(rho):
    gradient = H @ W
    expected = H @ (W + rho * gradient / np.linalg.norm(gradient))
    np.testing.assert_allclose(quadratic_step(W, H, rho=rho), expected, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-12, 0.0])
def test_zero_gradient_is_a_plain_step(epsilon):
    step = quadratic_step(np.zeros(3), H, rho=0.5, epsilon=epsilon)
    assert np.array_equal(step, np.zeros(3))


def test_perturbation_does_not_depend_on_the_scale_of_the_loss():
    np.testing.assert_allclose(
        quadratic_step(W, 4 * H, rho=0.5), 4 * quadratic_step(W, H, rho=0.5), rtol=1e-5
    )


X, Y = RNG.rand(12, 4).astype("float32"), RNG.randint(0, 3, 12)


def step_of(wrap, x=X, y=Y, **fit):
    model = network()
    before = model.get_weights()
    wrapped = wrap(model)
    wrapped.compile(keras.optimizers.SGD(1.0), LOSS, metrics=["accuracy"])
    history = wrapped.fit(x, y, batch_size=len(x), verbose=0, shuffle=False, **fit).history
    return [a - b for a, b in zip(before, model.get_weights())], history


def test_micro_batches_average_the_steps_of_their_groups():
    step, history = step_of(lambda m: kr.models.SAM(m, rho=0.5, micro_batch_size=5))
    groups = [slice(0, 5), slice(5, 10), slice(10, 12)]
    parts = [step_of(lambda m: kr.models.SAM(m, rho=0.5), X[g], Y[g])[0] for g in groups]
    for i, value in enumerate(step):
        expected = sum(w * p[i] for w, p in zip([5 / 12, 5 / 12, 2 / 12], parts))
        np.testing.assert_allclose(value, expected, atol=1e-6)
    plain = step_of(lambda m: m)[1]
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-5)
    assert history["accuracy"] == plain["accuracy"]


def test_micro_batches_keep_sample_weights_and_the_whole_batch_is_the_default():
    weights = np.linspace(0, 2, 12).astype("float32")
    one = step_of(lambda m: kr.models.SAM(m, rho=0.5, micro_batch_size=12), sample_weight=weights)[
        0
    ]
    whole = step_of(lambda m: kr.models.SAM(m, rho=0.5), sample_weight=weights)[0]
    for a, b in zip(one, whole):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_rho_zero_is_plain_training():
    for a, b in zip(step_of(lambda m: kr.models.SAM(m, rho=0.0))[0], step_of(lambda m: m)[0]):
        np.testing.assert_array_equal(a, b)
