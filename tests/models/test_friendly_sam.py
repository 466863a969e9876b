import keras
import numpy as np
import pytest
from counting import count, counting_model

import keras_regularize as kr
from tests.models import reference_steps as reference
from tests.models.small import LOSS, mlp, quadratic, single_steps

RNG = np.random.RandomState(0)
SIZES = ((4, 5), (5,), (5, 3), (3,))
START = [RNG.normal(0.0, 1.0, s).astype("float32") for s in SIZES]
BATCHES = [(RNG.rand(12, 4).astype("float32"), RNG.randint(0, 3, 12)) for _ in range(5)]


@pytest.mark.parametrize("arguments", [{}, {"sigma": 0.4, "momentum": 0.6}, {"sigma": -0.5}])
def test_five_steps_on_different_batches_follow_the_formula(arguments):
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
    )
    net.set_weights(START)
    model = kr.models.FriendlySAM(net, 0.3, **arguments)
    model.compile(keras.optimizers.SGD(0.5), LOSS)
    chain, weights = [reference.FriendlySAM(0.3, **arguments)], START
    for x, y in BATCHES:
        model.train_on_batch(x, y)
        _, weights = reference.sgd_step(reference.Network(), weights, chain, x, y, 0.5)
    for got, expected in zip(net.get_weights(), weights, strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5)
    for got, expected in zip(model.slots.weights, chain[0].mean, strict=True):
        np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("steps, arguments", [(1, {}), (3, {"sigma": 0.0})])
def test_the_first_step_and_without_sigma_every_step_is_sam(steps, arguments):
    one, other = mlp(normalize=True), mlp(normalize=True)
    for model in (kr.models.FriendlySAM(one, 0.3, **arguments), kr.models.SAM(other, 0.3)):
        model.compile(keras.optimizers.Adam(0.01), LOSS)
        single_steps(model, steps)
    for a, b in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_weights_unfrozen_later_start_their_mean_then():
    net = mlp()
    model = kr.models.FriendlySAM(net, 0.3)
    net.layers[0].trainable = False
    model.compile("sgd", LOSS)
    single_steps(model, 2)
    kept = [v.numpy() for v in model.slots.weights]
    net.layers[0].trainable = True
    model.compile("sgd", LOSS)
    assert len(model.slots.weights) == 4
    alone = kr.models.RegularizedModel(mlp())
    alone.model.set_weights(net.get_weights())
    alone.compile(keras.optimizers.SGD(1.0), LOSS)
    before = [w.copy() for w in net.get_weights()]
    single_steps(alone, 1)
    single_steps(model, 1)
    means = {v.path: v.numpy() for v in model.slots.weights}
    for i, (path, mean) in enumerate(means.items()):
        gradient_of = {2: 0, 3: 1, 0: 2, 1: 3}[i]  # Those of the first layer were made last.
        gradient = before[gradient_of] - alone.model.get_weights()[gradient_of]
        expected = gradient if gradient_of < 2 else 0.9 * kept[i] + 0.1 * gradient
        np.testing.assert_allclose(mean, expected, atol=1e-5, err_msg=path)


def test_a_zero_gradient_leaves_everything_finite():
    layer, model = quadratic(np.eye(3), np.zeros(3))
    model = kr.models.FriendlySAM(model, 0.3)
    model.compile(keras.optimizers.SGD(0.1), lambda y, z: keras.ops.mean(z, axis=-1))
    single_steps(model, 3, x=np.zeros((4, 1)), y=np.zeros((4, 1)))
    np.testing.assert_array_equal(layer.w.numpy(), np.zeros(3))


def test_passes_are_counted():
    model, counter = counting_model(inputs=6)
    wrapped = kr.models.FriendlySAM(model)
    wrapped.compile("sgd", LOSS)
    single_steps(wrapped, 1)
    assert tuple(count(counter, lambda: single_steps(wrapped, 1))) == (2, 2, 2)


@pytest.mark.parametrize("name", ["rho", "momentum"])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        kr.models.FriendlySAM(mlp(), **{name: -0.1})
