"""What features are good for, against slow definitions."""

import itertools

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.analysis import (
    alignment_uniformity,
    hungarian_accuracy,
    knn_accuracy,
    linear_probe,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = (X @ RNG.normal(size=(4, 3)) + RNG.normal(size=(40, 3))).argmax(1)


@pytest.mark.once
def test_the_probe_is_the_minimum():
    x = 100 + 5 * X
    probe = linear_probe(x, Y, x[:10], Y[:10], l2=1e-2, steps=2000)
    standard = (x - x.mean(0)) / x.std(0)
    kernel = probe.kernel * x.std(0)[:, None]
    z = x @ probe.kernel + probe.bias
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    slope = standard.T @ (p - np.eye(3)[Y]) / 40 + 1e-2 * kernel
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert probe.accuracy == np.mean(probe.predict(x[:10]) == Y[:10])
    assert probe.train_accuracy > 0.5
    # Names of classes do not matter, nor do constant features.
    shifted = linear_probe(
        np.hstack([x, np.ones((40, 1))]), Y * 7 + 2, np.hstack([x, np.ones((40, 1))]), Y * 7 + 2
    )
    assert set(shifted.classes) == {2, 9, 16} and np.isfinite(shifted.kernel).all()


@pytest.mark.once
def test_votes_one_by_one():
    u = X / np.linalg.norm(X, axis=1, keepdims=True)
    right = 0
    for i in range(40):
        cosines = [(u[i] @ u[j], Y[j]) for j in range(40) if j != i]
        votes = np.zeros(3)
        for cosine, label in sorted(cosines)[-5:]:
            votes[label] += np.exp(cosine / 0.1)
        right += votes.argmax() == Y[i]
    assert knn_accuracy(X, Y, k=5, temperature=0.1) == pytest.approx(right / 40)
    assert knn_accuracy(X, Y, X, Y, k=1) == 1.0
    assert knn_accuracy(X, np.eye(3)[Y], 3 * X, Y[:, None], k=100) <= 1.0


@pytest.mark.once
def test_no_assignment_is_better():
    for size in (1, 2, 5):
        y, clusters = RNG.integers(0, size, (2, 30))
        best = max(np.mean(np.take(p, clusters) == y) for p in itertools.permutations(range(size)))
        assert hungarian_accuracy(y, clusters) == pytest.approx(best)
    clusters = np.array([4, 4, 4, 9, 9, 1])
    assert hungarian_accuracy([0, 0, 1, 1, 1, 2], clusters) == pytest.approx(5 / 6)
    assert hungarian_accuracy(np.arange(6) % 2, np.arange(6)) == pytest.approx(2 / 6)
    assert hungarian_accuracy(np.eye(3)[Y], np.eye(3)[(Y + 1) % 3]) == 1.0


@pytest.mark.once
def test_alignment_and_uniformity_by_pairs():
    views = RNG.normal(size=(7, 2, 3))
    u = views / np.linalg.norm(views, axis=-1, keepdims=True)
    alignment = np.mean([((a - b) ** 2).sum() ** 0.5 for a, b in u])
    uniformity = [
        np.log(
            np.mean(
                [
                    np.exp(-2 * ((u[i, v] - u[j, v]) ** 2).sum())
                    for i, j in itertools.combinations(range(7), 2)
                ]
            )
        )
        for v in range(2)
    ]
    found = alignment_uniformity(views, alpha=1.0)
    assert found.alignment == pytest.approx(alignment)
    assert found.uniformity == pytest.approx(np.mean(uniformity))
    same = alignment_uniformity(np.ones((4, 2, 3)))
    assert (same.alignment, same.uniformity) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.once
def test_walks_lead_to_neighbours_of_neighbours():
    line = np.array([0.0, 1, 2.1, 3.3])[:, None]
    one = kr.utils.neighbor_graph(line, k=1)
    np.testing.assert_allclose(one, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    two = kr.utils.neighbor_graph(line, k=1, steps=2)
    np.testing.assert_allclose(two[3], [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(two.sum(1), 1)
    both = kr.utils.neighbor_graph(line, k=1, include_self=True)
    np.testing.assert_allclose(both[0], [0.5, 0.5, 0, 0])
    batches = kr.utils.GraphBatches(line, two, batch_size=3, seed=0)
    x, part = batches[0]
    rows = [list(line[:, 0]).index(value) for value in x[:, 0]]
    np.testing.assert_array_equal(part, two[rows][:, rows])
    assert len(batches) == 1 and len(set(rows)) == 3


@pytest.mark.everywhere
def test_quality_is_logged_and_collapse_is_seen():
    keras.utils.set_random_seed(0)
    x = X.astype("float32")
    encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    model = kr.models.MultiView(encoder, keras.layers.GaussianNoise(0.1))
    model.compile(keras.optimizers.SGD(0.0), kr.losses.NTXent())
    quality = kr.callbacks.RepresentationQuality(x[:30], Y[:30], x[30:], Y[30:], every=2)
    history = model.fit(x, epochs=4, callbacks=[quality], verbose=0).history
    features = encoder.predict(x, verbose=0)
    expected = linear_probe(features[:30], Y[:30], features[30:], Y[30:]).accuracy
    assert history["probe_accuracy"] == [expected] * 2
    assert 3 < history["effective_rank"][0] <= 4.01 and history["feature_std"][0] > 0.5
    encoder.set_weights([np.zeros((4, 5)), np.ones(5)])
    logs: dict = {}
    kr.callbacks.RepresentationQuality.on_epoch_end(quality, 1, logs)
    assert logs["effective_rank"] == 0 and logs["feature_std"] == pytest.approx(0, abs=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "make",
    [
        lambda: linear_probe(X, Y[:5], X, Y),
        lambda: linear_probe(X, Y, X[:, :2], Y),
        lambda: linear_probe(X * np.nan, Y, X, Y),
        lambda: linear_probe(X, Y, X, Y, l2=-1),
        lambda: knn_accuracy(X, Y, None, Y),
        lambda: knn_accuracy(X, Y, k=0),
        lambda: knn_accuracy(X[:1], Y[:1]),
        lambda: hungarian_accuracy(Y, Y[:3]),
        lambda: hungarian_accuracy([], []),
        lambda: alignment_uniformity(X),
        lambda: kr.utils.neighbor_graph(X, k=40),
        lambda: kr.utils.neighbor_graph(X, steps=0),
        lambda: kr.utils.GraphBatches(X, np.ones((3, 3)), 2),
        lambda: kr.callbacks.RepresentationQuality(X, Y, X, Y, probe="mlp"),
    ],
)
def test_what_does_not_fit(make):
    with pytest.raises(ValueError, match="Received"):
        make()
