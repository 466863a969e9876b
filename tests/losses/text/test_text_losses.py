"""Losses of tokens against loops, and what they are for."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array, evaluate_loss, normal

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 4, (5, 12)).astype("int32")
LOGITS = 2 * normal(5, 12, 4)


def repeats(row, n, counted=None):
    """By dictionary: which positions belong to an n-gram seen before, and the share of those n-grams."""
    seen, mask, found, total = set(), np.zeros(len(row), bool), 0, 0
    for s in range(len(row) - n + 1):
        if counted is not None and not counted[s : s + n].all():
            continue
        gram, total = tuple(row[s : s + n]), total + 1
        if gram in seen:
            mask[s : s + n], found = True, found + 1
        seen.add(gram)
    return mask, found / max(total, 1)


@pytest.mark.everywhere
@pytest.mark.parametrize("ngram", [1, 2, 3, 12, 13])
def test_repeats_are_those_of_a_loop(ngram):
    expected = [repeats(row, ngram)[0] for row in IDS]
    np.testing.assert_array_equal(array(kr.generative.ngram_repeat_mask(IDS, ngram)), expected)
    counted = RNG.random(IDS.shape) < 0.8
    expected = [repeats(*row)[0] for row in zip(IDS, [ngram] * 5, counted)]
    got = kr.generative.ngram_repeat_mask(IDS, ngram, counted)
    np.testing.assert_array_equal(array(got), expected)


@pytest.mark.parametrize("ignored", [None, 0])
def test_token_unlikelihood_is_that_of_a_loop(ignored):
    p = np.exp(LOGITS.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    expected = np.zeros(IDS.shape)
    for b, t in np.ndindex(*IDS.shape):
        if IDS[b, t] != ignored:
            candidates = set(IDS[b, :t]) - {IDS[b, t], ignored}
            rest = sum(np.log(1 - p[b, t, c]) for c in candidates)
            expected[b, t] = -np.log(p[b, t, IDS[b, t]]) - 0.7 * rest
    loss = kr.losses.TokenUnlikelihood(0.7, ignored, reduction="none")
    np.testing.assert_allclose(array(loss(IDS, LOGITS)), expected, rtol=1e-4, atol=1e-5)
    kept = IDS != ignored
    mean = kr.losses.TokenUnlikelihood(0.7, ignored)(IDS, LOGITS)
    np.testing.assert_allclose(array(mean), expected[kept].mean(), rtol=1e-4)


def test_sequence_unlikelihood_leaves_padding_out():
    loss = kr.losses.SequenceUnlikelihood(2, ignore_index=3, reduction="none")
    values = array(loss(IDS, LOGITS))
    expected = np.array([repeats(row, 2, row != 3)[0] for row in IDS])
    np.testing.assert_array_equal(values > 0, expected)


@pytest.mark.everywhere
def test_a_model_in_a_loop_has_a_gradient():
    """The probability of the repeat is 1 in float32."""
    logits = np.full((1, 4, 3), -20.0, "float32")
    logits[..., 1] = 20.0
    ids = np.ones((1, 4), "int32")
    values, gradient = evaluate_loss(kr.losses.SequenceUnlikelihood(1), ids, logits)
    np.testing.assert_allclose(values[0], [0.0, *[40.0 - np.log(2.0)] * 3], rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 1:], [[-0.5, 1.0, -0.5]] * 3, rtol=1e-5)


def test_one_text_or_equal_rewards_teach_nothing():
    log_p = -np.abs(normal(3, 6))
    assert array(kr.generative.implicit_unlikelihood_loss(log_p[:1], IDS[:1, :6])).tolist() == [0]
    same = np.tile(IDS[:1, :6], (3, 1))
    got = kr.generative.implicit_unlikelihood_loss(log_p, same, ngram=2)
    np.testing.assert_allclose(array(got), 0.0, atol=1e-6)


def test_parts_of_speech_are_averaged_over_words_that_count():
    y = np.where(IDS == 0, -1, IDS)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    loss = kr.losses.PartOfSpeechLoss()
    np.testing.assert_allclose(array(loss(y, LOGITS)), array(expected(y, LOGITS)), rtol=1e-5)
    np.testing.assert_allclose(array(loss(y, 0 * LOGITS)), np.log(4), rtol=1e-5)
    assert float(loss(0 * y - 1, LOGITS)) == 0.0
    x = np.where(np.arange(12)[None, :, None] < np.arange(8, 13)[:, None, None], LOGITS, 0.0)
    masked = keras.layers.Masking()(x)
    there = (x != 0).any(-1) & (y >= 0)
    expected = -np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))
    expected = np.take_along_axis(expected, np.maximum(y, 0)[..., None], -1)[..., 0][there].mean()
    np.testing.assert_allclose(array(loss(y, masked)), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [kr.losses.TokenUnlikelihood, kr.losses.SequenceUnlikelihood])
def test_what_text_losses_refuse(loss):
    with pytest.raises(ValueError, match="token ids"):
        loss()(IDS[:, 0], LOGITS[:, 0])
    with pytest.raises(ValueError, match="token ids"):
        loss()(np.eye(4)[IDS], LOGITS)
    with pytest.raises(ValueError, match="class ids from 0 to 3"):
        loss()(IDS + 1, LOGITS)
    with pytest.raises(ValueError, match="must be"):
        loss(-1)
    with pytest.raises(ValueError, match="time"):
        kr.generative.ngram_repeat_mask(IDS[0])
    with pytest.raises(ValueError, match="a log-probability for each token"):
        kr.generative.implicit_unlikelihood_loss(LOGITS[:, :3, 0], IDS)


def test_ids_that_half_precision_does_not_hold():
    ids = np.array([[40000, 7, 40000, 7]])
    loss = kr.losses.TokenUnlikelihood(reduction="none", dtype="bfloat16")
    assert np.isfinite(array(ops.cast(loss(ids, np.zeros((1, 4, 50000))), "float32"))).all()
