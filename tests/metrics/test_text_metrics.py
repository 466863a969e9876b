"""Metrics of language models against loops, and what does not count in them."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import normal

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 5, (6, 9)).astype("int32")
LOGITS = 2 * normal(6, 9, 5)
WEIGHTS = (np.arange(9) < np.arange(4, 10)[:, None]).astype("float32")


def result(metric, *arguments, **options):
    metric.update_state(*arguments, **options)
    return float(metric.result())


@pytest.mark.parametrize("window", [1, 3, 100])
@pytest.mark.parametrize("wrong_only", [False, True])
def test_token_repetition_is_that_of_a_loop(window, wrong_only):
    found = [
        p in y[max(0, t - window) : t] and not (wrong_only and p == y[t])
        for y, best, n in zip(IDS, LOGITS.argmax(-1), range(4, 10))
        for t, p in enumerate(best[:n])
    ]
    metric = kr.metrics.TokenRepetition(window, wrong_only)
    assert result(metric, IDS, LOGITS, WEIGHTS) == pytest.approx(np.mean(found), rel=1e-5)


@pytest.mark.everywhere
@pytest.mark.parametrize(
    "make", [kr.metrics.TokenRepetition, lambda: kr.metrics.UniqueTokens(5)], ids=["rep", "uniq"]
)
def test_nan_is_the_result_where_it_counts(make):
    spoiled = LOGITS.copy()
    spoiled[0, 8, 1] = np.nan
    assert result(make(), IDS, spoiled, WEIGHTS) == result(make(), IDS, LOGITS, WEIGHTS)
    assert np.isnan(result(make(), IDS, spoiled))


def test_perplexity_is_that_of_all_tokens():
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, IDS[..., None], -1)[..., 0]
    there = (WEIGHTS > 0) & (IDS != 2)
    metric = kr.metrics.Perplexity(from_logits=True, ignore_class=2)
    metric.update_state(IDS[:1], LOGITS[:1], WEIGHTS[:1])
    got = result(metric, IDS[1:], LOGITS[1:], WEIGHTS[1:])
    assert got == pytest.approx(np.exp(-picked[there].mean()), rel=1e-5)
    with pytest.raises(ValueError, match="class ids from 0 to 4"):
        metric.update_state(IDS + 1, LOGITS)


def test_unique_tokens_are_counted_once():
    metric = kr.metrics.UniqueTokens(5)
    assert result(metric, None, IDS[:2, :3], WEIGHTS[:2, :3]) == len(set(IDS[:2, :3].ravel()))
    assert result(metric, None, IDS) == 5
    assert result(kr.metrics.UniqueTokens(5), IDS, LOGITS) == len(set(LOGITS.argmax(-1).ravel()))
    with pytest.raises(ValueError, match="scores of 7 tokens"):
        kr.metrics.UniqueTokens(7).update_state(IDS, LOGITS)


def test_repetition_ends_where_padding_begins():
    whole = [IDS[i, : i + 4] for i in range(6)]
    rep = [1 - len(set(zip(r, r[1:]))) / (len(r) - 1) for r in whole]
    assert result(kr.metrics.SequenceRepetition(2), None, IDS, WEIGHTS) == pytest.approx(
        np.mean(rep), rel=1e-5
    )
    first = result(kr.metrics.SequenceRepetition(2), None, IDS, np.arange(6.0))
    rep = [1 - len(set(zip(r, r[1:]))) / 8 for r in IDS.tolist()]
    assert first == pytest.approx(np.average(rep, weights=np.arange(6.0)), rel=1e-5)
    assert result(kr.metrics.SequenceRepetition(4), None, IDS[:, :3]) == 0.0
    with pytest.raises(ValueError, match="Expected token ids"):
        kr.metrics.SequenceRepetition().update_state(None, LOGITS)


def test_in_evaluate_beside_a_mask():
    layers = [keras.layers.Embedding(5, 4, mask_zero=True), keras.layers.Dense(5)]
    net = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    perplexity, repeats = kr.metrics.Perplexity(True), kr.metrics.TokenRepetition(4)
    net.compile("sgd", loss, metrics=[perplexity, repeats])
    logs = net.evaluate(IDS, IDS, batch_size=4, verbose=0, return_dict=True)
    log_p = keras.ops.convert_to_numpy(keras.ops.log_softmax(net.predict(IDS, verbose=0)))
    picked = np.take_along_axis(log_p, IDS[..., None], -1)[..., 0]
    assert logs["perplexity"] == pytest.approx(np.exp(-picked[IDS != 0].mean()), rel=1e-4)
    assert 0 <= logs["token_repetition"] <= 1
