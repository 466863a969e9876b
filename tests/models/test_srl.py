"""Surrogate representations: the path against a loop, the epochs of `fit`, and what it does to features."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array, number, tensor


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def network(seed=0):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "tanh", name="features"), layers.Dense(1)]
    )


def data(n=32):
    rng = np.random.default_rng(0)
    y = rng.uniform(0, 4, n)
    return rng.normal(size=(n, 4)) + y[:, None], y


def test_the_path_equals_a_loop():
    rng = np.random.default_rng(0)
    layer = kr.layers.SurrogateRepresentation(
        5, None, 7, 0.5, 2.0, 0.3, temperature=0.4, momentum=0.6, seed=1
    )
    z, bins = rng.normal(size=(6, 3)), np.array([0, 3, 3, -1, 1, 0], "int32")
    layer([tensor(z), tensor(bins, "int32")], training=True)
    assert number(layer.losses[0]) == 0 and (array(layer.seen) == 0).all()
    layer.end_epoch()
    u = unit(z)
    first = {b: unit(u[bins == b].mean(0)) for b in (0, 1, 3)}
    np.testing.assert_array_equal(array(layer.seen), [1, 1, 0, 1, 0])
    # Bin 4 is in the batch and was in no epoch; bin 3 is stored and not in the batch.
    z, bins = rng.normal(size=(4, 3)), np.array([0, 1, 4, 1], "int32")
    layer([tensor(z), tensor(bins, "int32")], training=True)
    u = unit(z)
    trace = {0: unit(u[0]), 1: unit(u[[1, 3]].mean(0)), 3: first[3]}
    points = unit(array(layer.points).astype("float64"))
    envelope = 1 - np.mean([max(p @ t for t in trace.values()) for p in points])
    steps = [((trace[1] - trace[0]) ** 2).sum(), ((trace[3] - trace[1]) ** 2).sum() / 2]
    contrast = []
    for row, b in zip(u, bins):
        scores = {k: np.exp(row @ t / 0.4) for k, t in trace.items()}
        contrast.append(-np.log(scores[b] / sum(scores.values())) if b in trace else 0.0)
    expected = 0.5 * np.mean(contrast) + 2.0 * envelope + 0.3 * sum(steps)
    np.testing.assert_allclose(number(layer.losses[0]), expected, rtol=1e-5)
    layer.end_epoch()
    np.testing.assert_allclose(
        array(layer.surrogates)[[0, 3]], [0.6 * first[0] + 0.4 * u[0], first[3]], rtol=1e-5
    )
    assert array(layer.seen)[4] == 1 and (array(layer.sums) == 0).all()


@pytest.mark.parametrize("outside", [None, kr.models.SAM])
def test_the_first_epoch_collects_and_the_next_move(outside):
    x, y = data()
    edges = kr.utils.bin_edges(y, 8)

    def trained(epochs, factors):
        net = network()
        inside = kr.models.SRL(net, "features", edges, 6, 20, *factors, seed=0)
        model = inside if outside is None else outside(inside, 0.05)
        model.compile(keras.optimizers.SGD(0.05), "mae")
        ended = []
        callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: ended.append(e))
        model.fit(x, y, 8, epochs, 0, [callback], shuffle=False)
        assert ended == list(range(epochs))
        return net.get_weights(), inside

    weights, model = trained(1, (1.0, 1.0, 1.0))
    for w, plain in zip(weights, trained(1, (0.0, 0.0, 0.0))[0]):
        np.testing.assert_allclose(w, plain, rtol=1e-5, atol=1e-7)
    seen = np.isin(np.arange(8), kr.utils.bin_labels(y, edges))
    np.testing.assert_array_equal(array(model.representation.seen), seen)
    weights, _ = trained(2, (1.0, 1.0, 1.0))
    assert np.abs(weights[0] - trained(2, (0.0, 0.0, 0.0))[0][0]).max() > 1e-3


def test_what_was_stored_is_saved(tmp_path):
    x, y = data()
    model = kr.models.SRL(network(), 0, kr.utils.bin_edges(y, 8), None, 20)
    model.compile("adam", "mae")
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        array(loaded.representation.surrogates), array(model.representation.surrogates)
    )
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)


def test_what_does_not_count_is_in_no_bin():
    x, y = data(8)
    y[3], x[4] = np.nan, np.nan
    model = kr.models.SRL(network(), "features", [0, 1, 2, 3, 4], None, 20)
    model.compile("sgd", lambda y, p: 0.0 * ops.sum(ops.where(ops.isfinite(p), p, 0.0), axis=-1))
    weights = np.array([1, 1, 1, 1, 0, 1, 1, 1.0])
    x[4] = 1e3
    model.train_on_batch(x, y, weights)
    counted = np.delete(y, [3, 4])
    np.testing.assert_array_equal(
        array(model.representation.sums)[:, -1], np.histogram(counted, [0, 1, 2, 3, 4])[0]
    )


def test_wrong_arguments():
    with pytest.raises(ValueError, match="at least two ascending numbers"):
        kr.models.SRL(network(), "features", [1, 1])
    with pytest.raises(ValueError, match="No such layer: other"):
        kr.models.SRL(network(), "other", [0, 1, 2]).compile("sgd", "mae")
    net = network()
    with pytest.raises(ValueError, match="and not its input"):
        functional = keras.Model(net.inputs, net.outputs)
        kr.models.SRL(functional, 0, [0, 1, 2]).compile("sgd", "mae")
    model = kr.models.SRL(network(), "features", [0, 1, 2])
    model.compile("sgd", "mae")
    with pytest.raises(ValueError, match="`SRL` needs labels"):
        model.fit(np.ones((4, 4)), verbose=0)
    with pytest.raises(ValueError, match="one label per sample"):
        model.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)


@pytest.mark.once
def test_bins_and_shots_equal_a_loop():
    rng = np.random.default_rng(0)
    y = rng.exponential(size=500)
    edges = kr.utils.bin_edges(y, 12)
    assert edges[0] == y.min() and edges[-1] == y.max() and len(edges) == 13
    bins = kr.utils.bin_labels(y, edges)
    np.testing.assert_array_equal(np.bincount(bins, minlength=12), np.histogram(y, edges)[0])
    np.testing.assert_array_equal(kr.utils.bin_labels([-5.0, 1e9], edges), [0, 11])
    predicted = y + rng.normal(size=500)
    weights = rng.integers(0, 3, 500).astype("float32")
    counts = np.bincount(bins, minlength=12)[bins]
    for shot, inside in {
        "many": counts > 100,
        "medium": (counts <= 100) & (counts >= 20),
        "few": counts < 20,
    }.items():
        metric = kr.metrics.ShotMAE.from_labels(y, edges, shot)
        assert metric.name == f"{shot}_shot_mae"
        for part in (slice(0, 200), slice(200, None)):
            metric.update_state(y[part], predicted[part, None], weights[part])
        expected = np.average(np.abs(predicted - y)[inside], weights=weights[inside])
        np.testing.assert_allclose(number(metric.result()), expected, rtol=1e-5)
    for wrong in ([], [1.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="finite numbers, not all equal"):
            kr.utils.bin_edges(wrong, 3)
    with pytest.raises(ValueError, match="NaN among them"):
        kr.utils.bin_labels([np.nan], [0, 1])
    with pytest.raises(ValueError, match="a number of samples for each of the 2 bins"):
        kr.metrics.ShotMAE([0, 1, 2], [3])


@pytest.mark.rotating
def test_the_path_becomes_longer_and_stays_even():
    rng = np.random.default_rng(0)
    y = np.clip(rng.exponential(0.2, 512), 0, 1)
    x = np.cos(np.outer(y, rng.normal(size=16)) * 3) + 0.1 * rng.normal(size=(512, 16))
    edges = np.linspace(0, 1, 21)

    def path(factors):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        net = keras.Sequential(
            [keras.Input((16,)), layers.Dense(32, "relu"), layers.Dense(8), layers.Dense(1)]
        )
        model = kr.models.SRL(net, 1, edges, None, 100, *factors, seed=0)
        model.compile(keras.optimizers.Adam(3e-3), "mae")
        model.fit(x, y, batch_size=64, epochs=12, verbose=0)
        layer = model.representation
        mask = array(layer.seen) > 0
        return number(kr.losses.enveloping_loss(layer.surrogates, layer.points, mask)), mask

    (long, seen), (short, _) = path((1.0, 10.0, 1e-3)), path((0.0, 0.0, 0.0))
    assert seen.sum() > 15
    assert long < short - 0.1
