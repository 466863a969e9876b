"""LOBSTER and the decay of irrelevant weights: how the gradient chooses what shrinks."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.optimizers import LOBSTER, IrrelevantWeightDecay
from keras_regularize.testing._common import to_numpy
from keras_regularize.utils import AllBut

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
BOTH = pytest.mark.parametrize("method", [LOBSTER, IrrelevantWeightDecay])
RNG = np.random.default_rng(1)
W = RNG.normal(size=(3, 2)).astype("float32")


def run(optimizer, *gradients, name="kernel", start=W):
    variable = keras.Variable(start, name=name)
    for g in gradients:
        optimizer.apply([ops.convert_to_tensor(np.asarray(g, "float32"))], [variable])
    return to_numpy(variable)


@BOTH
def test_limits(method):
    none, small, large = 0 * W, 1e-3 * np.ones_like(W), 200 * np.sign(W)
    # One decays by the factor, the other has the gradient of an L2 penalty.
    rate, share = (0.1, 0.1) if method is LOBSTER else (0.5, 0.1 * 2 * 0.5)
    np.testing.assert_allclose(
        run(method(SGD(rate), 0.1), none, none), W * (1 - share) ** 2, rtol=1e-6
    )
    # What is relevant is left to the wrapped optimizer.
    np.testing.assert_allclose(run(method(SGD(0.1), 0.1), large), run(SGD(0.1), large), rtol=1e-6)
    # To first order in the gradient both keep the same share.
    moved = run(method(SGD(rate), 0.1), small) - W
    if method is IrrelevantWeightDecay:
        moved = moved + rate * small
        np.testing.assert_allclose(moved, -share * (1 - 1e-3) * W, rtol=1e-3)
    else:
        after = W - rate * small
        np.testing.assert_allclose(moved + rate * small, -share * (1 - 1e-3) * after, rtol=1e-3)
    plain = run(Adam(0.1), large, small)
    np.testing.assert_array_equal(run(method(Adam(0.1), 0.0), large, small), plain)


@BOTH
def test_schedule_names_and_errors(method):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.0])
    none, half = 0 * W, SGD(0.5)
    np.testing.assert_allclose(run(method(half, schedule), none, none), W * 0.5)
    np.testing.assert_array_equal(
        run(method(SGD(0.5), 0.5, where=AllBut(["gamma"])), none, name="gamma"), W
    )
    np.testing.assert_allclose(
        run(method(SGD(0.5), 0.5, where=lambda v: True), none, name="gamma"), W * 0.5
    )
    restored = method.from_config(method(SGD(0.1), schedule, where=AllBut(["bias"])).get_config())
    assert restored.where.names == ["bias"] and float(to_numpy(restored.factor(1))) == 0.0
    with pytest.raises(ValueError, match="`factor` must be a number at least 0 or a schedule"):
        method(SGD(0.1), -1.0)
    with pytest.raises(ValueError, match="`where` must be the name of a variable, a list of names"):
        method(SGD(0.1), where=2)


def test_which_variables_decay_by_default():
    none = 0 * W
    np.testing.assert_array_equal(run(LOBSTER(SGD(0.5), 0.5), none, name="gamma"), W)
    decayed = run(IrrelevantWeightDecay(SGD(0.5), 0.5), none, name="gamma")
    np.testing.assert_allclose(decayed, W * 0.5)


def test_lobster_decays_the_weight_after_the_step():
    # Of a weight of 1 with a gradient of 0.5 and a rate of 1, half is left by the step.
    np.testing.assert_allclose(run(LOBSTER(SGD(1.0), 0.2), [0.5], start=[1.0]), 0.5 * (1 - 0.1))


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_irrelevant_weights_are_penalized_in_the_gradient_that_moments_see(alpha):
    w, velocity, gradients = W.astype("float64"), 0.0, RNG.normal(size=(3, *W.shape))
    for g in gradients:
        g = g.astype("float32").astype("float64")
        velocity = 0.9 * velocity - 0.1 * (g + 2 * 0.3 * np.exp(-np.abs(g) / alpha) * w)
        w = w + velocity
    optimizer = IrrelevantWeightDecay(SGD(0.1, momentum=0.9), 0.3, alpha)
    np.testing.assert_allclose(run(optimizer, *gradients), w, rtol=1e-5)
    assert (IrrelevantWeightDecay("sgd").factor, IrrelevantWeightDecay("sgd").alpha) == (1e-5, 1.0)
    with pytest.raises(ValueError, match="`alpha` must be a number above 0"):
        IrrelevantWeightDecay("sgd", alpha=0)


def test_a_schedule_of_the_factor_begins_anew_at_a_restart():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 2, 0.0)
    optimizer, variable = IrrelevantWeightDecay(SGD(0.5), schedule), keras.Variable(W)
    none, expected = ops.zeros(W.shape), W
    for restart, factor in [(0, 0.5), (0, 0.25), (0, 0.0), (1, 0.5), (0, 0.25)]:
        if restart:
            optimizer.restart()
        optimizer.apply([none], [variable])
        expected = expected * (1 - factor)
        np.testing.assert_allclose(to_numpy(variable), expected, rtol=1e-6)


def test_normalized_irrelevance_does_not_depend_on_the_scale_of_the_gradient():
    g = RNG.normal(size=W.shape)
    penalty = 0.2 * W * np.exp(-np.abs(g) / np.abs(g).mean() / 0.5)
    for scale in (1.0, 1e-6):
        optimizer = IrrelevantWeightDecay(SGD(1.0), 0.1, 0.5, normalize=True)
        np.testing.assert_allclose(run(optimizer, scale * g), W - scale * g - penalty, rtol=1e-5)


def test_insensitive_weights_vanish():
    # A regression in which the last four of eight inputs play no part.
    x = RNG.normal(size=(128, 8)).astype("float32")
    x[:, 4:] *= 0.1
    y = 3 * x[:, :4].sum(1, keepdims=True)
    x, y = (
        np.tile(x, (150, 1)),
        np.tile(y, (150, 1)),
    )  # Epochs in one: steps are cheap, epochs are not.
    for optimizer in (LOBSTER(SGD(0.05), 0.02), IrrelevantWeightDecay(SGD(0.05), 0.2)):
        net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        net.set_weights([np.ones((8, 1)), np.zeros(1)])
        net.compile(optimizer, "mse")
        net.fit(x, y, batch_size=128, shuffle=False, verbose=0)
        kernel = net.get_weights()[0][:, 0]
        assert (np.abs(kernel[4:]) < 0.15).all() and (kernel[:4] > 1).all()
