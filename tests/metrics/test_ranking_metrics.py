"""Metrics of lists against loops, scikit-learn, and lists without their padding."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import ndcg_score

import keras_regularize as kr
from keras_regularize.metrics import NDCG, MeanReciprocalRank, RecallAtK

RNG = np.random.default_rng(0)
Y, S = RNG.integers(0, 4, (12, 7)), RNG.normal(size=(12, 7)).astype("float32")
Y[3] = 0
METRICS = [NDCG(), NDCG(3), MeanReciprocalRank(), MeanReciprocalRank(2), RecallAtK(2)]
metrics = pytest.mark.parametrize("metric", METRICS, ids=lambda m: f"{m.name}-{m.k}")


def loop(metric, y, s):
    """The value of one query, item after item."""
    ranked = y[sorted(range(len(y)), key=lambda i: -s[i])]  # Python's sort is stable.
    first = ranked[: metric.k]
    if not y.any():
        return 0.0
    if isinstance(metric, RecallAtK):
        return (first > 0).sum() / (y > 0).sum()
    if isinstance(metric, MeanReciprocalRank):
        return max([1 / (r + 1) for r, relevance in enumerate(first) if relevance > 0], default=0.0)

    def dcg(items):
        return sum((2.0**relevance - 1) / np.log2(r + 2) for r, relevance in enumerate(items))

    return dcg(first) / dcg(np.sort(y)[::-1][: metric.k])


def result(metric, *arguments, **columns):
    metric.reset_state()
    metric.update_state(*arguments, **columns)
    return float(metric.result())


@pytest.mark.everywhere
@metrics
def test_the_mean_over_queries_is_that_of_a_loop(metric):
    values = np.array([loop(metric, y, s) for y, s in zip(Y, S)])
    assert result(metric, Y, S) == pytest.approx(values.mean(), rel=1e-5)
    ties = np.round(S)
    expected = np.mean([loop(metric, y, s) for y, s in zip(Y, ties)])
    assert result(metric, Y.astype("uint8"), ties) == pytest.approx(expected, rel=1e-5)
    weight = RNG.uniform(size=12)
    weight[2] = 0
    wild = S.copy()
    wild[2, 0] = np.nan
    expected = np.average(values, weights=weight)
    assert result(metric, Y, wild, sample_weight=weight) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(result(metric, Y, wild))


@pytest.mark.parametrize("k", [None, 1, 3, 9])
def test_gains_are_those_of_scikit_learn(k):
    assert result(NDCG(k), Y, S) == pytest.approx(ndcg_score(2.0**Y - 1, S, k=k), rel=1e-5)


@metrics
def test_padding_is_not_there(metric):
    y, s = np.full((14, 9), -1), np.full((14, 9), 1e4, "float32")
    y[1:13, [0, 2, 3, 4, 6, 7, 8]], s[1:13, [0, 2, 3, 4, 6, 7, 8]] = Y, S
    expected = result(metric, Y, S)
    s[5, 1] = np.nan
    assert result(metric, y, s) == pytest.approx(expected, rel=1e-5)
    assert result(metric, y[..., None], s[..., None]) == pytest.approx(expected, rel=1e-5)
    assert result(metric, 0 * Y - 1, S) == 0.0
    low = np.where(Y > 0, -np.inf, S)  # Behind the others, and before padding.
    found = result(metric, np.where(S > 0.5, -1, Y), low)
    parts = [(y[s <= 0.5], low[s <= 0.5]) for y, s, low in zip(Y, S, low)]
    assert found == pytest.approx(np.mean([loop(metric, *part) for part in parts]), rel=1e-5)


def test_a_mask_of_items_is_padding():
    x = RNG.normal(size=(12, 7, 3)).astype("float32")
    x[:6, 5:] = 0
    net = keras.Sequential([keras.Input((None, 3)), layers.Masking(), layers.Dense(1)])
    net.compile("sgd", kr.losses.ListNet(), metrics=[NDCG(3, name="ndcg")])
    logs = net.evaluate(x, Y, batch_size=5, verbose=0, return_dict=True)
    expected = result(NDCG(3), np.where((x != 0).any(-1), Y, -1), net.predict(x, verbose=0))
    assert logs["ndcg"] == pytest.approx(expected, rel=1e-5)


def test_what_is_refused():
    for arguments in ((Y[0], S[0]), (Y[:, 0], S[:, :1]), (Y, S[:, :5]), (Y[None], S[None])):
        with pytest.raises(ValueError, match="Received: y_true.shape="):
            NDCG().update_state(*arguments)
    with pytest.raises(ValueError, match="Expected weights, or a mask, that fit"):
        NDCG().update_state(Y, S, sample_weight=np.ones((12, 7)))
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1 or None"):
        NDCG(0)
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1. Received"):
        RecallAtK(None)
