import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.counting import count, counting_model
from tests.models.small import LOSS, mlp, quadratic, single_steps

H = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 0.1]])
W = np.array([0.5, -1.0, 2.0])


def test_the_second_pass_is_only_made_every_period():
    model, counter = counting_model(inputs=6)
    wrapped = kr.models.LookSAM(model, period=3)
    wrapped.compile("sgd", LOSS)
    single_steps(wrapped, 1)  # Step 0 looks; tracing done.
    passes = [tuple(count(counter, lambda: single_steps(wrapped, 1))) for _ in range(6)]
    assert passes == [(n, n, n) for n in (1, 1, 2, 1, 1, 2)]


def test_period_one_is_sam():
    one, other = mlp(normalize=True), mlp(normalize=True)
    for model in (kr.models.LookSAM(one, rho=0.3, period=1), kr.models.SAM(other, rho=0.3)):
        model.compile(keras.optimizers.Adam(0.01), LOSS)
        single_steps(model, 3)
    for a, b in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_closed_form_on_a_quadratic(alpha):
    rho, period, rate = 0.5, 3, 0.1
    w, direction = W.copy(), None
    for step in range(5):
        g = H @ w
        if step % period == 0:
            gradient = H @ (w + rho * g / np.linalg.norm(g))
            added = gradient - (gradient @ g) / (g @ g) * g
            direction = added / np.linalg.norm(added)
        else:
            gradient = g + alpha * np.linalg.norm(g) * direction
        w = w - rate * gradient
    layer, model = quadratic(H, W)
    model = kr.models.LookSAM(model, rho=rho, period=period, alpha=alpha)
    model.compile(keras.optimizers.SGD(rate), lambda y, z: keras.ops.mean(z, axis=-1))
    single_steps(model, 5, x=np.zeros((4, 1)), y=np.zeros((4, 1)))
    np.testing.assert_allclose(layer.w.numpy(), w, rtol=1e-5)
    np.testing.assert_allclose(model.slots.weights[0].numpy(), direction, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "start", [np.zeros(3), np.array([0.0, 0.0, 2.0])], ids=["zero gradient", "parallel gradients"]
)
def test_no_direction_is_none_rather_than_rounding(start):
    # A multiple of the identity turns no gradient: what is left of it is rounding.
    layer, model = quadratic(3.7 * np.eye(3), start)
    model = kr.models.LookSAM(model, rho=0.3, period=2)
    model.compile(keras.optimizers.SGD(0.1), lambda y, z: keras.ops.mean(z, axis=-1))
    single_steps(model, 2, x=np.zeros((4, 1)), y=np.zeros((4, 1)))
    np.testing.assert_array_equal(model.slots.weights[0].numpy(), np.zeros(3))
    assert np.isfinite(layer.w.numpy()).all()


def test_accumulated_gradients_are_one_update():
    model, counter = counting_model(inputs=6)
    wrapped = kr.models.LookSAM(model, period=2)
    wrapped.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), LOSS)
    single_steps(wrapped, 4)
    passes = [count(counter, lambda: single_steps(wrapped, 1)).forwards for _ in range(4)]
    assert passes == [2, 2, 1, 1]
