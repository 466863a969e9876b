"""Scores of out-of-distribution data against NumPy, SciPy and scikit-learn; that they tell data apart; errors."""

import functools

import keras
import numpy as np
import pytest
from scipy import special, stats
from sklearn.covariance import EmpiricalCovariance
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from keras_regularize.analysis import (
    MahalanobisScore,
    NearestNeighborScore,
    energy_score,
    entropy_score,
    max_softmax_score,
    out_of_distribution_scores,
)
from keras_regularize.analysis.out_of_distribution import nearest_neighbor_score

pytestmark = pytest.mark.once


def logits(n=40, classes=5):
    return 3.0 * np.random.default_rng(0).normal(size=(n, classes))


def test_scores_of_outputs_are_those_of_scipy():
    z = logits()
    p = special.softmax(z, axis=-1)
    np.testing.assert_allclose(max_softmax_score(z, from_logits=True), p.max(axis=-1))
    np.testing.assert_allclose(max_softmax_score(p), p.max(axis=-1))
    np.testing.assert_allclose(entropy_score(p), -stats.entropy(p, axis=-1))
    np.testing.assert_allclose(entropy_score(z, from_logits=True), -stats.entropy(p, axis=-1))
    np.testing.assert_allclose(energy_score(z), special.logsumexp(z, axis=-1))
    np.testing.assert_allclose(energy_score(z, 2.5), 2.5 * special.logsumexp(z / 2.5, axis=-1))


@pytest.mark.parametrize("score", [max_softmax_score, entropy_score])
def test_one_column_is_the_second_of_two_classes(score):
    z = logits(classes=1)
    both = np.concatenate([0.0 * z, z], axis=-1)
    expected = score(both, from_logits=True)
    np.testing.assert_allclose(score(z, from_logits=True), expected)
    np.testing.assert_allclose(score(z[:, 0], from_logits=True), expected)
    np.testing.assert_allclose(score(special.expit(z)), expected)
    np.testing.assert_allclose(energy_score(z[:, 0]), energy_score(both))


def test_extremes_and_shapes():
    huge = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(max_softmax_score(huge, from_logits=True), [1.0, 1 / 3])
    np.testing.assert_allclose(entropy_score(huge, from_logits=True), [0.0, -np.log(3)], atol=1e-12)
    np.testing.assert_allclose(energy_score(huge), [1e4, np.log(3) - 1e4])
    assert entropy_score(np.array([[1.0, 0.0]])) == 0.0
    for score in (max_softmax_score, entropy_score):
        assert score(np.zeros((2, 4, 3)), from_logits=True).shape == (2, 4)
        assert score(np.zeros((0, 3)), from_logits=True).shape == (0,)
    assert energy_score(np.zeros((0, 3), "float16")).shape == (0,)


def test_predictions_of_the_wrong_kind_are_an_error():
    z = logits()
    with pytest.raises(ValueError, match="Expected probabilities"):
        max_softmax_score(z)
    with pytest.raises(ValueError, match="Expected logits"):
        entropy_score(special.softmax(z, axis=-1), from_logits=True)
    with pytest.raises(ValueError, match="Expected logits"):
        energy_score(special.softmax(z, axis=-1))
    with pytest.raises(ValueError, match="Expected finite scores"):
        energy_score(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="`temperature` must be a number above 0"):
        energy_score(z, 0.0)


def features(n=300, d=6, classes=4):
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, n)
    mix = rng.normal(size=(d, d))
    return 2.0 * rng.normal(size=(classes, d))[y] + rng.normal(size=(n, d)) @ mix, y


@pytest.mark.parametrize("labels", ["ids", "column", "rows", "any"])
def test_mahalanobis_score_is_that_of_scikit_learn(labels):
    x, y = features()
    means = np.stack([x[y == k].mean(axis=0) for k in range(4)])
    estimate = EmpiricalCovariance(assume_centered=True).fit(x - means[y])
    other = np.random.default_rng(2).normal(size=(50, 6))
    expected = -np.min([estimate.mahalanobis(other - mean) for mean in means], axis=0)
    given = {"ids": y, "column": y[:, None], "rows": np.eye(4)[y], "any": 10 * y - 3}[labels]
    score = MahalanobisScore().fit(x, given)
    np.testing.assert_allclose(score.predict(other), expected, rtol=1e-8)
    np.testing.assert_allclose(score.means_, means)
    np.testing.assert_allclose(score.covariance_, estimate.covariance_)


def test_directions_without_variance_have_no_say():
    x, y = features()
    other = np.random.default_rng(2).normal(size=(50, 6))
    expected = MahalanobisScore().fit(x, y).predict(other)

    def dead(rows):
        return np.concatenate([rows, np.full((len(rows), 2), 1e3)], axis=1)

    def copied(rows):
        return np.concatenate([rows, rows[:, :1] / 3.0], axis=1)

    for widened in (dead, copied):
        found = MahalanobisScore().fit(widened(x), y).predict(widened(other))
        if widened is dead:
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        wide = np.stack([widened(x)[y == k].mean(axis=0) for k in range(4)])
        inverse = np.linalg.pinv(np.cov((widened(x) - wide[y]).T, bias=True), rcond=1e-12)
        moves = widened(other)[:, None] - wide
        oracle = -np.einsum("nkd,de,nke->nk", moves, inverse, moves).min(axis=1)
        np.testing.assert_allclose(found, oracle, rtol=1e-6)


def test_features_far_from_the_origin_lose_nothing():
    x, y = features()
    plain = MahalanobisScore().fit(x, y).predict(x)
    far = MahalanobisScore().fit(x + 1e6, y).predict(x + 1e6)
    np.testing.assert_allclose(far, plain, rtol=1e-5)
    near = NearestNeighborScore(3, normalize=False).fit(x).predict(x)
    far = NearestNeighborScore(3, normalize=False).fit(x + 1e6).predict(x + 1e6)
    np.testing.assert_allclose(far, near, rtol=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_nearest_neighbor_score_is_that_of_scikit_learn(scaled, k, monkeypatch):
    monkeypatch.setattr(nearest_neighbor_score, "BLOCK", 4000)  # Several blocks.
    x, _ = features()
    other = np.random.default_rng(2).normal(size=(50, 6)).astype("float32")
    prepare = normalize if scaled else np.asarray
    known = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(prepare(x))
    expected = -known.kneighbors(prepare(other.astype("float64")))[0][:, -1]
    found = NearestNeighborScore(k, normalize=scaled).fit(x).predict(other)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_sample_of_the_training_data_is_its_own_nearest_neighbor():
    x, _ = features()
    np.testing.assert_array_equal(NearestNeighborScore(1).fit(x).predict(x), 0.0)
    assert (NearestNeighborScore(1).fit(1e200 * x).predict(1e-200 * x) > -1e-7).all()
    np.testing.assert_array_equal(
        NearestNeighborScore(1).fit(np.eye(2)).predict(np.zeros((1, 2))), -1.0
    )


@pytest.mark.parametrize(
    "score", [MahalanobisScore(), NearestNeighborScore(1)], ids=["mahalanobis", "neighbor"]
)
def test_bad_features_are_an_error(score):
    x, y = features()
    arguments = (y,) if isinstance(score, MahalanobisScore) else ()
    with pytest.raises(ValueError, match="has to be fitted first"):
        type(score)().predict(x)
    for bad in (x[:, :, None], x[:, :0], x[0]):
        with pytest.raises(ValueError, match=r"Expected features \(n, d\)"):
            score.fit(bad, *arguments)
    with pytest.raises(ValueError, match="Expected finite features. Received: 1 that"):
        score.fit(np.where(x == x.max(), np.nan, x), *arguments)
    score.fit(x, *arguments)
    assert score.predict(x[:0]).shape == (0,)
    with pytest.raises(ValueError, match=r"Expected features \(n, 6\), as in `fit`"):
        score.predict(x[:, :5])


def test_labels_and_neighbors_that_do_not_fit_are_an_error():
    x, y = features()
    for bad_x, bad_y in ((x, y[:-1]), (x[:0], y[:0]), (x, y.reshape(2, -1))):
        with pytest.raises(ValueError, match="Expected a label for each row"):
            MahalanobisScore().fit(bad_x, bad_y)
    with pytest.raises(ValueError, match="Expected at least k=50 rows of features. Received: 20"):
        NearestNeighborScore().fit(x[:20])
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1"):
        NearestNeighborScore(0)


def test_scores_of_features_tell_shuffled_digits_better_than_those_of_outputs():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    keras.utils.set_random_seed(0)
    hidden = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu")])
    model = keras.Sequential([hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x[:1200], y[:1200], epochs=15, batch_size=64, verbose=0)
    other = np.random.default_rng(0).permuted(x[1200:], axis=1)  # The same pixels, elsewhere.

    def auroc(model, score):
        scores = [score(model.predict(data, verbose=0)) for data in (x[1200:], other)]
        return out_of_distribution_scores(*scores).auroc

    known = hidden.predict(x[:1200], verbose=0)
    of_outputs = [
        auroc(model, functools.partial(max_softmax_score, from_logits=True)),
        auroc(model, functools.partial(entropy_score, from_logits=True)),
        auroc(model, energy_score),
    ]
    of_features = [
        auroc(hidden, MahalanobisScore().fit(known, y[:1200]).predict),
        auroc(hidden, NearestNeighborScore(10).fit(known).predict),
    ]
    assert min(of_outputs) > 0.6
    assert min(of_features) > max(0.95, *of_outputs)
