import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.models.small import LOSS, X, Y, mlp, quadratic, single_steps

H = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 0.1]])
W = np.array([0.5, -1.0, 2.0])


def output_mean(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_closed_form_on_a_quadratic_moves_against_the_sum_of_gradients(momentum):
    rho, rate = 0.5, 0.1
    w, velocity, losses = W.copy(), np.zeros(3), []
    for _ in range(4):
        norm = np.linalg.norm(velocity)
        moved = w - (rho * velocity / norm if norm else 0.0)
        losses.append(0.5 * moved @ H @ moved)
        velocity = momentum * velocity + H @ moved
        w = w - rate * (H @ moved)
    layer, model = quadratic(H, W)
    model = kr.models.MomentumSAM(model, rho=rho, momentum=momentum)
    model.compile(keras.optimizers.SGD(rate), output_mean)
    data = {"x": np.zeros((4, 1)), "y": np.zeros((4, 1))}
    # The logged loss is that of the one pass, at the perturbed weights.
    got = []
    for _ in range(4):
        model.reset_metrics()
        got += single_steps(model, 1, **data)
    np.testing.assert_allclose(got, losses, rtol=1e-5)
    np.testing.assert_allclose(layer.w.numpy(), w, rtol=1e-5)
    np.testing.assert_allclose(model.slots.weights[0].numpy(), velocity, rtol=1e-5)


def test_the_first_step_is_plain_and_the_second_is_not():
    plain, wrapped = mlp(), mlp()
    model = kr.models.MomentumSAM(wrapped, rho=0.5)
    for m in (plain, model):
        m.compile("sgd", LOSS)
    for equal in (True, False):
        plain.train_on_batch(X, Y)
        model.train_on_batch(X, Y)
        pairs = list(zip(plain.get_weights(), wrapped.get_weights()))
        assert all(np.allclose(a, b, atol=1e-7) for a, b in pairs) is equal


def test_zero_gradients_leave_zero_momentum():
    layer, model = quadratic(H, np.zeros(3))
    model = kr.models.MomentumSAM(model, rho=0.5)
    model.compile("sgd", output_mean)
    single_steps(model, 2, x=np.zeros((4, 1)), y=np.zeros((4, 1)))
    np.testing.assert_array_equal(layer.w.numpy(), np.zeros(3))
    np.testing.assert_array_equal(model.slots.weights[0].numpy(), np.zeros(3))
