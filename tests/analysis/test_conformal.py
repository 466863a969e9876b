"""Prediction sets, against loops over the definitions, and how often they cover."""

import math

import numpy as np
import pytest
from keras import ops
from sklearn.linear_model import QuantileRegressor

from keras_regularize.analysis import (
    ConformalClassifier,
    ConformalQuantiles,
    ConformalRegressor,
    LikelihoodRatioQuantile,
    lrqr_objective,
    split_conformal_quantile,
    weighted_conformal_quantile,
)
from keras_regularize.testing._common import values_and_gradients
from tests.helpers import number, softmax

RNG = np.random.default_rng(0)
METHODS = ("threshold", "adaptive")


# Quantiles


@pytest.mark.parametrize("size", [1, 9, 19, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5])
def test_the_quantile_is_that_of_the_rank(size, alpha):
    scores = RNG.normal(size=size)
    rank = math.ceil(round((size + 1) * (1 - alpha), 9))
    expected = np.sort(scores)[rank - 1] if rank <= size else np.inf
    assert split_conformal_quantile(scores[:, None], alpha) == expected
    for weight in (1.0, 3.0):
        assert weighted_conformal_quantile(scores, np.full(size, weight), alpha) == expected
    if np.isfinite(expected):
        moved = ConformalQuantiles([1 - alpha]).fit(scores, np.zeros((size, 1)))
        assert moved.offsets_[0] == expected


def test_the_weighted_quantile_is_that_of_a_loop():
    scores, weights, new = RNG.normal(size=30), RNG.uniform(size=30), RNG.uniform(size=7) * 3
    weights[:4] = 0.0

    def quantile(w):
        below = 0.0
        for i in np.argsort(scores):
            below += weights[i]
            if below >= 0.8 * (weights.sum() + w):
                return scores[i]
        return np.inf

    got = weighted_conformal_quantile(scores, weights, 0.2, new)
    np.testing.assert_array_equal(got, [quantile(w) for w in new])
    assert weighted_conformal_quantile(scores, weights, 0.2) == quantile(weights.max())
    assert weighted_conformal_quantile(scores, weights[:, None], 0.2, 0.3) == quantile(0.3)
    assert weighted_conformal_quantile(scores, weights, 0.2, 1e9) == np.inf


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: split_conformal_quantile([], 0.1), "at least one calibration sample"),
        (lambda: split_conformal_quantile([1, np.nan]), "none of them NaN"),
        (lambda: split_conformal_quantile([1, 2], 1.0), "`alpha` must be a number above 0 and be"),
        (lambda: weighted_conformal_quantile([1, 2], [1]), "one for each score"),
        (lambda: weighted_conformal_quantile([1, 2], [1, -1]), "at least 0 and not all 0"),
        (lambda: weighted_conformal_quantile([1, 2], [0, 0]), "at least 0 and not all 0"),
        (lambda: weighted_conformal_quantile([1], [1], 0.1, [-1]), "`test_weight` must be a fin"),
        (lambda: ConformalClassifier(method="raps"), "one of 'threshold', 'adaptive'"),
        (lambda: ConformalClassifier().predict([[1.0]]), "has to be fitted first"),
        (lambda: ConformalClassifier().fit([0], [[2.0, 1.0]]), "Expected probabilities"),
        (lambda: ConformalRegressor(method="normal"), "one of 'absolute', 'quantile'"),
        (lambda: ConformalRegressor().predict([1.0]), "has to be fitted first"),
        (lambda: ConformalRegressor().fit([1.0], [[1.0, 2.0]]), r"\(n,\) or \(n, 1\) for method"),
        (lambda: ConformalRegressor(0.1, "quantile").fit([1.0], [1.0]), r"predictions \(n, 2\)"),
        (lambda: ConformalRegressor().fit([1.0, 2.0], [1.0]), "one for each prediction"),
        (lambda: ConformalRegressor().fit([1.0, np.nan], [1.0, 2.0]), "none of them NaN"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Classes


def classes(size, rng):
    """Classes, and their probabilities, of inputs that are easy or difficult."""
    logits = rng.normal(size=(size, 5)) * np.where(rng.uniform(size=size) < 0.5, 0.7, 3.0)[:, None]
    y = (softmax(logits).cumsum(axis=1) < rng.uniform(size=(size, 1))).sum(axis=1)
    return np.minimum(y, 4), softmax(logits)


@pytest.mark.parametrize("method", METHODS)
def test_sets_are_those_of_the_definition(method):
    (y, p), (_, new) = classes(60, RNG), classes(10, RNG)
    fitted = ConformalClassifier(0.2, method, seed=3).fit(y, p)

    def score(row, k, u):
        if method == "threshold":
            return 1 - row[k]
        return sum(q for q in row if q > row[k]) + u * row[k]

    u, v = (np.random.default_rng((3, stream)).uniform(size=n) for stream, n in ((0, 60), (1, 10)))
    q = split_conformal_quantile([score(p[i], y[i], u[i]) for i in range(60)], 0.2)
    assert fitted.quantile_ == pytest.approx(q, rel=1e-12)
    expected = [[score(row, k, w) <= q for k in range(5)] for row, w in zip(new, v)]
    np.testing.assert_array_equal(fitted.predict(new), expected)
    logits = ConformalClassifier(0.2, method, from_logits=True, seed=3).fit(np.eye(5)[y], np.log(p))
    np.testing.assert_array_equal(logits.predict(np.log(new)), expected)
    with pytest.raises(ValueError, match="Expected predictions of 5 classes"):
        fitted.predict(new[:, :4] / new[:, :4].sum(axis=1, keepdims=True))


def test_sets_cover_as_they_should():
    rng = np.random.default_rng(1)
    y, p = classes(2000, rng)
    group = np.digitize(p.max(axis=1), [0.4, 0.6, 0.8, 0.95])
    worst = {}
    for method in METHODS:
        covered = np.empty((100, 6))
        for row in covered:
            rows = rng.permutation(2000)
            known, new = rows[:1000], rows[1000:]
            sets = ConformalClassifier(0.1, method).fit(y[known], p[known]).predict(p[new])
            hits = sets[np.arange(1000), y[new]]
            row[:] = [hits.mean(), *(hits[group[new] == k].mean() for k in range(5))]
        overall, *groups = covered.mean(axis=0)
        assert overall == pytest.approx(0.9, abs=0.02)
        worst[method] = np.abs(np.array(groups) - 0.9).max()
    # Among inputs of each difficulty adaptive sets come nearer.
    assert worst["adaptive"] < worst["threshold"] - 0.02


def test_sets_of_one_column_and_of_few_samples():
    p = RNG.uniform(size=50)
    y = (RNG.uniform(size=50) < p).astype(int)
    both = ConformalClassifier().fit(y, np.stack([1 - p, p], axis=1))
    for given in (p, p[:, None]):
        one = ConformalClassifier().fit(y, given)
        np.testing.assert_array_equal(one.predict(given), both.predict(np.stack([1 - p, p], 1)))
    few = ConformalClassifier().fit(y[:8], p[:8])
    assert few.quantile_ == np.inf and few.predict(p).all()


# Intervals


def heteroscedastic(size, rng):
    x = rng.uniform(0.2, 3, size=size)
    return x, x + x * rng.normal(size=size)


def test_intervals_are_those_of_the_definition():
    x, y = heteroscedastic(60, RNG)
    absolute = ConformalRegressor(0.2).fit(y[:, None], x[:, None])
    q = split_conformal_quantile(np.abs(y - x), 0.2)
    np.testing.assert_allclose(absolute.predict(x), np.stack([x - q, x + q], axis=1))
    ends = np.stack([0.5 * x, 1.5 * x], axis=1)
    scores = [max(low - t, t - high) for (low, high), t in zip(ends, y)]
    q = split_conformal_quantile(scores, 0.2)
    quantile = ConformalRegressor(0.2, "quantile").fit(y, ends)
    np.testing.assert_allclose(quantile.predict(ends), ends + [-q, q])
    assert np.isinf(ConformalRegressor().fit(y[:5], x[:5]).predict(x)).all()


@pytest.mark.parametrize("method", ["absolute", "quantile"])
def test_intervals_cover_as_they_should(method):
    rng = np.random.default_rng(1)
    x, y = heteroscedastic(2000, rng)
    predictions = x if method == "absolute" else np.stack([0.0 * x, 2.0 * x], axis=1)
    covered, wide = [], []
    for _ in range(100):
        rows = rng.permutation(2000)
        known, new = rows[:1000], rows[1000:]
        fitted = ConformalRegressor(0.1, method).fit(y[known], predictions[known])
        low, high = fitted.predict(predictions[new]).T
        hits = (low <= y[new]) & (y[new] <= high)
        covered.append(hits.mean())
        wide.append(hits[x[new] > 2].mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)
    assert (np.mean(wide) < 0.83) == (method == "absolute")


# Covariate shift


def shifted(size, rng, shift=0.0, width=40):
    x = rng.normal(size=(size, width))
    x[:, 0] += shift
    return x, np.abs(rng.normal(size=size)) * np.exp(0.5 * x[:, 0])


def test_weights_restore_the_coverage_under_shift():
    rng = np.random.default_rng(2)
    plain, weighted = [], []
    for _ in range(100):
        (x, s), (new, t) = shifted(300, rng, width=1), shifted(300, rng, 1.0, width=1)
        q = weighted_conformal_quantile(s, np.exp(x[:, 0]), 0.1, np.exp(new[:, 0]))
        weighted.append(np.mean(t <= q))
        plain.append(np.mean(t <= split_conformal_quantile(s, 0.1)))
    assert np.mean(plain) < 0.82
    assert np.mean(weighted) == pytest.approx(0.91, abs=0.02)  # At least 0.9.


def test_the_objective_and_its_gradient():
    x, s = shifted(30, RNG, width=3)
    u, t = RNG.normal(size=(2, 20, 3))
    c = np.array([0.5, -0.3, 0.2])

    def by_hand(c, beta, alpha=0.2, strength=0.7):
        pinball = [max((1 - alpha) * e, -alpha * e) for e in s - x @ c]
        penalty = np.mean((beta * (u @ c)) ** 2) - 2 * np.mean(beta * (t @ c))
        return np.mean(pinball) + strength * penalty

    value = lrqr_objective(c, 1.3, x, s, u, t, 0.2, 0.7)
    assert number(value) == pytest.approx(by_hand(c, 1.3), rel=1e-5)
    run = values_and_gradients(
        lambda scale: lrqr_objective(c.astype("float32"), scale, *f32(x, s, u, t), 0.2, 0.0)
    )
    assert number(run(np.float32(1.3))[1]) == 0
    with pytest.raises(ValueError, match=r"Expected coefficients \(d,\)"):
        lrqr_objective(c, 1.0, x, s, u[:, :2], t)
    with pytest.raises(ValueError, match=r"Expected coefficients \(d,\)"):
        lrqr_objective(c, 1.0, x, s[:5], u, t)
    with pytest.raises(ValueError, match="`regularization` must be a number at least 0"):
        lrqr_objective(c, 1.0, x, s, u, t, regularization=-1)


def f32(*arrays):
    return [ops.convert_to_tensor(a.astype("float32")) for a in arrays]


def test_without_regularization_it_is_quantile_regression():
    x, s = shifted(200, np.random.default_rng(3), width=3)
    fitted = LikelihoodRatioQuantile(alpha=0.2, regularization=0.0).fit(s, x, x + 1)
    peer = QuantileRegressor(quantile=0.8, alpha=0.0, solver="highs").fit(x, s)
    np.testing.assert_allclose(fitted.threshold(x), peer.predict(x), atol=0.03)
    assert np.mean(s <= fitted.threshold(x)) == pytest.approx(0.8, abs=0.02)


def test_the_solution_is_a_minimum_of_the_objective():
    rng = np.random.default_rng(4)
    (x, s), (u, _), (t, _) = (
        shifted(100, rng, width=3),
        shifted(90, rng, width=3),
        shifted(80, rng, 1.0, 3),
    )
    fitted = LikelihoodRatioQuantile(regularization=0.4).fit(s, x, t, u)
    mean, spread = u.mean(axis=0), u.std(axis=0)
    parts = [np.c_[(z - mean) / spread, np.ones(len(z))] for z in (x, u, t)]

    def objective(c, beta):
        return number(lrqr_objective(c, beta, parts[0], s, *parts[1:], 0.1, 0.4))

    least = objective(fitted.coefficients_, fitted.scale_)
    for _ in range(30):
        step = 0.1 * rng.normal(size=5)
        assert objective(fitted.coefficients_ + step[:4], fitted.scale_ + step[4]) > least - 1e-4
    np.testing.assert_allclose(fitted.threshold(x), parts[0] @ fitted.coefficients_)


def test_the_regularization_is_chosen_and_knows_no_unit():
    rng = np.random.default_rng(5)
    (x, s), (t, _) = shifted(60, rng, width=4), shifted(50, rng, 1.0, 4)
    fitted = LikelihoodRatioQuantile().fit(s, x, t)
    unit = np.quantile(s, 0.9) - s.min()
    largest = unit * 60 ** (-1 / 3) * (1 / 60 + 1 / 50) ** (-1 / 3)
    assert min(abs(fitted.regularization_ - largest * (0.1 + 0.1 * k)) for k in range(10)) < 1e-9
    again = LikelihoodRatioQuantile(regularization=fitted.regularization_).fit(s, x, t)
    np.testing.assert_allclose(again.threshold(t), fitted.threshold(t), rtol=1e-6)
    other = LikelihoodRatioQuantile(features=lambda z: z / 7).fit(10 * s, x, t)
    np.testing.assert_allclose(other.threshold(t), 10 * fitted.threshold(t), rtol=1e-4)
    constant = np.c_[x, np.ones(60)], np.c_[t, np.ones(50)]
    other = LikelihoodRatioQuantile().fit(s, *constant)
    np.testing.assert_allclose(other.threshold(constant[1]), fitted.threshold(t), rtol=1e-4)


def test_it_covers_more_than_split_conformal_prediction_under_shift():
    split, plain, ours = [], [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        (x, s), (u, _), (t, _) = shifted(150, rng), shifted(500, rng), shifted(500, rng, 1.0)
        new, scores = shifted(2000, rng, 1.0)
        split.append(np.mean(scores <= split_conformal_quantile(s, 0.1)))
        for strength, into in ((0.0, plain), ("auto", ours)):
            fitted = LikelihoodRatioQuantile(alpha=0.1, regularization=strength).fit(s, x, t, u)
            into.append(np.mean(scores <= fitted.threshold(new)))
    assert np.mean(ours) > np.mean(split) + 0.04
    assert np.mean(ours) > np.mean(plain) + 0.03
    assert np.mean(ours) < 0.9


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda f, x, s: f.threshold(x), "has to be fitted first"),
        (lambda f, x, s: f.fit(s[:5], x, x), "Expected finite scores"),
        (lambda f, x, s: f.fit(s, x, x[:, :2]), "Expected finite scores"),
        (lambda f, x, s: f.fit(s, x * np.nan, x), "Expected finite features"),
        (lambda f, x, s: f.fit(s, x, x[:2]), "at least 3 samples of each kind"),
        (lambda f, x, s: f.fit(s, x, x).threshold(x[:, :2]), r"Expected features \(n, 3\)"),
        (lambda f, x, s: LikelihoodRatioQuantile(regularization="best"), "`regularization` must"),
        (lambda f, x, s: LikelihoodRatioQuantile(features=3), "`features` must be a function"),
    ],
)
def test_what_is_refused_under_shift(call, message):
    x, s = shifted(12, np.random.default_rng(0), width=3)
    with pytest.raises(ValueError, match=message):
        call(LikelihoodRatioQuantile(), x, s)
