"""The Dice score against counts by hand."""

import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import normal


def by_hand(ids, predicted, classes):
    scores = []
    for c in range(classes):
        y, p = ids == c, predicted == c
        if y.any() or p.any():
            scores.append(2 * (y & p).sum() / (y.sum() + p.sum()))
    return np.mean(scores)


@pytest.mark.everywhere
def test_the_score_is_that_of_counts_over_batches():
    rng = np.random.default_rng(0)
    ids, scores = rng.integers(0, 3, (4, 5, 6)), normal(4, 5, 6, 4)
    scores[..., 3] = -9.0  # Never there, and never predicted.
    metric = kr.metrics.DiceScore(4, ignore_class=255)
    expected = by_hand(ids, scores.argmax(-1), 4)
    padded = np.concatenate([ids, np.full((4, 1, 6), 255)], axis=1).astype("uint8")
    longer = np.concatenate([scores, normal(4, 1, 6, 4, seed=1)], axis=1)
    for part in (slice(0, 1), slice(1, 4)):
        metric.update_state(padded[part, ..., None], longer[part])
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(ids, scores, sample_weight=np.array([1.0, 0.0, 1.0, 0.0]))
    np.testing.assert_allclose(
        float(metric.result()), by_hand(ids[::2], scores[::2].argmax(-1), 4), rtol=1e-6
    )


def test_one_channel_without_background():
    mask, p = np.array([[0, 1, 1, 1]]), np.array([[[0.6], [0.7], [0.2], [0.9]]], "float32")
    metric = kr.metrics.DiceScore(2, include_background=False)
    metric.update_state(mask, p)
    np.testing.assert_allclose(float(metric.result()), 2 * 2 / (3 + 3), rtol=1e-6)
    with pytest.raises(ValueError, match="predictions of 2 classes"):
        metric.update_state(mask, np.zeros((1, 4, 3), "float32"))
    with pytest.raises(ValueError, match="class ids from 0 to 1"):
        metric.update_state(mask + 1, p)
