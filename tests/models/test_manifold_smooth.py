"""ManifoldSmooth: multipliers against a loop, unlabelled rows, what is saved, and the two moons."""

import keras
import numpy as np
import pytest
from sklearn.datasets import make_moons

import keras_regularize as kr
from tests.helpers import array, number, tensor

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(seed=0, units=8):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential([keras.Input((2,)), layers.Dense(units, "relu"), layers.Dense(2)])


def data(n=12):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)), np.where(np.arange(n) % 3 == 0, np.arange(n) % 2, -1)


def slopes(f, x, bandwidth):
    n = len(x)
    squares = np.square(x[:, None] - x[None]).sum(-1)
    k = np.exp(-squares / (4 * bandwidth)) * (1 - np.eye(n))
    means = (k * np.square(f[:, None] - f[None]).sum(-1)).sum(1) / k.sum(1)
    distances = np.sqrt(squares) + np.eye(n)
    return means, (np.abs(f[:, None] - f[None]).sum(-1) / distances).max(1)


def on_simplex(x):
    ordered = np.sort(x)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(x) + 1)
    return np.maximum(x - excess[np.flatnonzero(ordered > excess)[-1]], 0)


@pytest.mark.parametrize("projection", ["normalize", "simplex"])
@pytest.mark.parametrize("slope", ["max", "mean"])
def test_two_steps_equal_a_loop(slope, projection):
    x, y = data()
    net, rate, tolerance = network(), 0.3, 0.1
    model = kr.models.ManifoldSmooth(
        net, tolerance, 12, 0.5, rate, 1.5, penalty_factor=2.0, slope=slope, projection=projection
    )
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    labelled = kr.utils.with_index(y)
    f = array(net(tensor(x))).astype("float64")
    means, largest = slopes(f, x, 0.5)
    used = means if slope == "mean" else largest
    log_p = f - np.log(np.exp(f).sum(-1, keepdims=True))
    fit = -np.mean([log_p[i, y[i]] for i in range(12) if y[i] >= 0])
    multipliers, mu = np.full(12, 1 / 12), 1.5
    for _ in range(2):
        loss = model.train_on_batch(x, labelled)
        np.testing.assert_allclose(loss, mu * fit + 2 * multipliers @ means, rtol=1e-4)
        moved = multipliers + rate * used
        multipliers = moved / moved.sum() if projection == "normalize" else on_simplex(moved)
        mu = np.clip(mu + rate * (fit - tolerance), 0, 2)
        np.testing.assert_allclose(
            array(model.multipliers)[:, 0], multipliers, rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(number(model.loss_multiplier), mu, rtol=1e-4)
        np.testing.assert_allclose(number(model.lipschitz_estimate), used.max(), rtol=1e-4)


def test_a_part_of_the_data_moves_its_own_multipliers():
    x, y = data()
    model = kr.models.ManifoldSmooth(network(), 0.1, 12, dual_learning_rate=0.3)
    model.compile("sgd", LOSS)
    columns = {key: value[:4] for key, value in kr.utils.with_index(y).items()}
    model.train_on_batch(x[:4], columns)
    found = array(model.multipliers)[:, 0]
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
    assert np.ptp(found[4:]) < 1e-7 and (found[:4] > found[5]).all()


def test_state_is_saved_and_batches_do_without_it(tmp_path):
    x, y = data()
    model = kr.models.ManifoldSmooth(network(), 0.1, 12, dual_learning_rate=0.3)
    model.compile("sgd", LOSS)
    model.fit(x, kr.utils.with_index(y), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded.multipliers), array(model.multipliers))
    assert number(loaded.loss_multiplier) == number(model.loss_multiplier)
    alone = kr.models.ManifoldSmooth(network(), 0.1, dual_learning_rate=0.3)
    alone.compile("sgd", LOSS)
    alone.fit(x, y, batch_size=5, verbose=0)
    with pytest.raises(ValueError, match="ManifoldSmooth needs the index of each sample"):
        model.fit(x, y, verbose=0)


def test_far_equal_and_single_samples_are_finite():
    x, y = data(6)
    for given in (1e3 * x, 0.0 * x, x[:1]):
        model = kr.models.ManifoldSmooth(network(), 0.1, bandwidth=0.1)
        model.compile("sgd", LOSS)
        assert np.isfinite(model.train_on_batch(given, y[: len(given)]))
        assert all(np.isfinite(w).all() for w in model.get_weights())
    assert number(kr.losses.weighted_laplacian_penalty(np.ones(4), np.eye(4), np.ones(4))) == 0
    with pytest.raises(ValueError, match=r"one per sample, \(n,\)"):
        kr.losses.weighted_laplacian_penalty(np.ones(4), np.eye(4), np.ones(3))


@pytest.mark.rotating
def test_two_moons_from_a_few_labels():
    x, truth = make_moons(200, noise=0.08, random_state=0)
    y = np.full(200, -1)
    for k in (0, 1):
        y[np.flatnonzero(truth == k)[:3]] = k
    scores = {}
    for name in ("plain", "smooth"):
        net = network(1, 64)
        model = net
        given = (x[y >= 0], y[y >= 0])
        if name == "smooth":
            model = kr.models.ManifoldSmooth(
                net, 0.05, 200, 0.005, 0.1, maximum_multiplier=2.0, penalty_factor=10.0
            )
            given = (x, kr.utils.with_index(y))
        model.compile(keras.optimizers.Adam(0.01), LOSS)
        model.fit(*given, batch_size=200, epochs=300, verbose=0)
        scores[name] = np.mean(net.predict(x, verbose=0).argmax(-1) == truth)
    assert scores["smooth"] > scores["plain"] + 0.03, scores
