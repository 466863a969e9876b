"""Recalibrated training: a step against the formula in float64, and what does not count in it."""

import math

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from tests.helpers import normal, number

X, Y = normal(7, 3), normal(7, seed=1)
WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 1.5, 0.0, 1.0], "float32")


def network(outputs=2, penalty=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), layers.Dense(outputs, kernel_regularizer=penalty)])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def formula(kernel, bias, weights, tau):
    """The first four samples, recalibrated by the other three."""
    mean, raw = (X @ kernel + bias).T
    scale = np.logaddexp(raw, 0.0) + 1e-6
    z = (Y - mean) / scale
    pits = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z])
    likelihood = 0.5 * z**2 + np.log(scale) + 0.5 * math.log(2 * math.pi)

    def smooth(t):  # Of the calibration samples, with their weights.
        return (
            sum(w * sigmoid((t - u) / tau) for w, u in zip(weights[4:], pits[4:]))
            / weights[4:].sum()
        )

    def reflected(t):
        return 1 - smooth(2 - t) + smooth(t) - smooth(-t)

    def density(t, step=1e-6):
        slope = (reflected(t + step) - reflected(t - step)) / (2 * step)
        return slope / (reflected(1.0) - reflected(0.0))

    values = [w * (v - math.log(density(p))) for w, v, p in zip(weights, likelihood[:4], pits)]
    return np.mean(values) + 0.01 * np.sum(kernel**2)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_objective_equals_the_formula(weights):
    net = network(penalty="l2")
    model = kr.models.RecalibratedTraining(net, temperature=0.3)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    y = Y.copy()
    if weights is not None:
        y[2] = y[5] = np.nan  # Of no weight.
    start = [np.float64(w) for w in net.get_weights()]
    loss = float(model.train_on_batch(X, y[:, None], sample_weight=weights))
    given = np.ones(7) if weights is None else np.float64(weights)
    assert loss == pytest.approx(formula(*start, given, 0.3), rel=1e-4)
    for i, (before, after) in enumerate(zip(start, net.get_weights())):
        for where in np.ndindex(before.shape):
            ends = []
            for step in (1e-4, -1e-4):
                moved = [w.copy() for w in start]
                moved[i][where] += step
                ends.append(formula(*moved, given, 0.3))
            slope = (ends[0] - ends[1]) / 2e-4
            assert (before[where] - after[where]) / 0.1 == pytest.approx(slope, abs=1e-3)


def loss_of(net, x, y, **arguments):
    model = kr.models.RecalibratedTraining(net, **arguments)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return float(model.train_on_batch(x, y))


def test_a_gaussian_is_a_mixture_of_one_and_a_batch_of_one_is_plain():
    single, mixture = network(), network(3)
    kernel, bias = single.get_weights()
    mixture.set_weights([np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))])
    assert loss_of(single, X, Y) == pytest.approx(loss_of(mixture, X, Y), rel=1e-5)
    likelihood = kr.losses.GaussianNegativeLogLikelihood()(Y[:1], single(X[:1]))
    assert loss_of(single, X[:1], Y[:1]) == pytest.approx(number(likelihood), rel=1e-5)


def test_masked_steps_are_in_neither_half():
    x, y = normal(4, 3, 2), normal(4, 3, seed=1)
    x[0, 2], x[3, 1] = 0.0, 0.0
    inputs = keras.Input((3, 2))
    outputs = layers.Dense(2)(layers.Masking(0.0)(inputs))
    net, losses = keras.Model(inputs, outputs), []
    for wild in (0.0, 1e4):
        y[0, 2] = y[3, 1] = wild
        losses.append(loss_of(net, x, y))
    assert losses[0] == losses[1] and np.isfinite(losses[0])


def test_far_predictions_are_finite():
    net = network()
    net.set_weights([np.full((3, 2), 1e4), np.zeros(2)])
    for x in (np.sign(X), -np.ones((6, 3)), np.zeros((6, 3))):
        model = kr.models.RecalibratedTraining(net)
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        assert np.isfinite(float(model.train_on_batch(x, Y[: len(x)])))
        assert all(np.isfinite(w).all() for w in net.get_weights())


def test_what_it_cannot_train_is_refused():
    model = kr.models.RecalibratedTraining(network(4))
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"3 \* components"):
        model.fit(X, Y, verbose=0)
    inputs = keras.Input((3,))
    two = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(2)(inputs)])
    model = kr.models.RecalibratedTraining(two)
    model.compile("sgd", kr.losses.GaussianCRPS(), run_eagerly=True)
    with pytest.raises(ValueError, match="single output"):
        model.fit(X, [Y, Y], verbose=0)
    with pytest.raises(ValueError, match="temperature"):
        kr.models.RecalibratedTraining(network(), temperature=0.0)


@pytest.mark.everywhere
def test_compiled_steps_take_batches_of_any_size():
    model = kr.models.RecalibratedTraining(network())
    model.compile("sgd")
    history = model.fit(X, Y, batch_size=4, verbose=0).history  # Of four and of three.
    assert np.isfinite(history["loss"]).all()


def test_evaluate_measures_the_compiled_loss():
    model = kr.models.RecalibratedTraining(network())
    error = kr.metrics.ProbabilisticCalibrationError()
    model.compile("sgd", kr.losses.GaussianCRPS(), metrics=[error], run_eagerly=True)
    model.fit(X, Y, verbose=0)
    loss = model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(number(kr.losses.GaussianCRPS()(Y, model(X))), rel=1e-5)
