"""DecoupledWeightDecay: what decays by how much, whatever the learning rate."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.optimizers import DecoupledWeightDecay, normalized_weight_decay
from keras_regularize.testing._common import to_numpy

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
Piecewise = keras.optimizers.schedules.PiecewiseConstantDecay
RNG = np.random.default_rng(0)
START = [RNG.normal(size=s).astype("float32") for s in [(3, 2), (2,)]]
GRADS = [[RNG.normal(size=w.shape).astype("float32") for w in START] for _ in range(3)]


def run(optimizer, steps=GRADS, names=("kernel", "bias")):
    variables = [keras.Variable(w, name=n) for w, n in zip(START, names)]
    for grads in steps:
        optimizer.apply([ops.convert_to_tensor(g) for g in grads], variables)
    return [to_numpy(v) for v in variables]


def zeros(steps):
    return [[0.0 * w for w in START]] * steps


@pytest.mark.parametrize("schedule", [None, Piecewise([0, 1], [1.0, 0.5, 0.25])])
@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_without_gradients_weights_decay_whatever_the_rate(schedule, rate):
    optimizer = DecoupledWeightDecay(SGD(rate, momentum=0.9), 0.1, schedule)
    factor = np.prod([1 - 0.1 * (1 if schedule is None else eta) for eta in (1, 0.5, 0.25)])
    for got, w in zip(run(optimizer, zeros(3)), START):
        np.testing.assert_allclose(got, w * factor, rtol=1e-6)
    assert to_numpy(optimizer.learning_rate) == np.float32(rate)
    assert int(to_numpy(optimizer.iterations)) == 3


def test_without_schedule_equals_kerass_own_at_another_decay():
    for name, make in {"SGD": SGD, "Adam": Adam}.items():
        own = run(DecoupledWeightDecay(make(0.1), 0.02))
        for got, expected in zip(own, run(make(0.1, weight_decay=0.2))):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_rate_that_is_a_schedule_acts_and_is_not_multiplied_by_a_second():
    rates = Piecewise([0], [0.1, 0.0])
    got = run(DecoupledWeightDecay(SGD(rates), 0.0))
    np.testing.assert_allclose(got[0], START[0] - 0.1 * GRADS[0][0], rtol=1e-6)
    with pytest.raises(ValueError, match="must be a number. Received an optimizer whose learning"):
        DecoupledWeightDecay(SGD(rates), 0.0, schedule=rates)


def test_what_is_excluded_does_not_decay():
    by_name = DecoupledWeightDecay(SGD(0.1), 0.5, where=kr.utils.AllBut(["bias"]))
    by_method = DecoupledWeightDecay(SGD(0.1), 0.5)
    by_method.exclude_from_weight_decay(var_names=["bias"])
    for optimizer in (by_name, by_method):
        kernel, bias = run(optimizer, zeros(1))
        np.testing.assert_allclose(kernel, 0.5 * START[0])
        np.testing.assert_array_equal(bias, START[1])
    # Part of a name is not the name.
    np.testing.assert_allclose(
        run(DecoupledWeightDecay(SGD(0.1), 0.5, where=kr.utils.AllBut(["kern"])), zeros(1))[0],
        0.5 * START[0],
    )
    net = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, name="free"), layers.Dense(1, name="tied")]
    )
    before = net.get_weights()
    net.compile(DecoupledWeightDecay(SGD(0.0), 0.5, where=kr.utils.AllBut(["free"])), "mse")
    net.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    for i, share in enumerate([1.0, 1.0, 0.5, 0.5]):
        np.testing.assert_allclose(net.get_weights()[i], share * before[i], rtol=1e-6)


def test_schedule_inside_loss_scaling():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        net = keras.Sequential([keras.Input((3,)), layers.Dense(2, use_bias=False)])
        net.compile(DecoupledWeightDecay(SGD(0.1), 0.1, Piecewise([0], [1.0, 0.5])), "mse")
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(net.optimizer, keras.optimizers.LossScaleOptimizer)
    before = net.get_weights()[0]
    # Without a signal there is no gradient.
    net.fit(np.zeros((4, 3)), np.zeros((4, 2)), batch_size=2, verbose=0)
    np.testing.assert_allclose(net.get_weights()[0], before * 0.9 * 0.95, rtol=1e-5)
    assert to_numpy(net.optimizer.learning_rate) == np.float32(0.1)


def test_normalized_decay_is_that_of_the_formula():
    assert normalized_weight_decay(0.05, 4, 16, 4) == pytest.approx(0.05 * (4 / 64) ** 0.5)
    with pytest.raises(ValueError, match="`epochs` must be an integer of at least 1"):
        normalized_weight_decay(0.05, 4, 16, 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((SGD(0.1), 1.5), "`weight_decay` must be a number at least 0 and at most 1"),
        ((SGD(0.1), 0.1, 0.5), "`schedule` must be None or"),
        ((SGD(0.1), 0.1, None, 2), "`where` must be the name of a variable, a list"),
        ((keras.optimizers.AdamW(), 0.1), "whose `weight_decay` must be None"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DecoupledWeightDecay(*arguments)
