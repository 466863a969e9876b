"""The search for bits, and the predictor it asks."""

import itertools

import numpy as np
import pytest

from keras_regularize.hyper import AccuracyPredictor, search_bits


def score(rows):
    return (np.sqrt(rows) * np.array([5.0, 1.0, 1.5, 3.0])).sum(1)


def test_finds_the_best_of_all_rows():
    bits = (2, 3, 4, 6, 8)
    allowed = [row for row in itertools.product(bits, repeat=4) if 3.5 < np.mean(row) <= 4]
    best = max(score(np.array(allowed, "float64")))
    row, value = search_bits(score, 4, bits, 4.0, population=100, generations=100, seed=0)
    assert tuple(row) in allowed and value == pytest.approx(best)
    few = [search_bits(score, 4, bits, 4.0, population=8, generations=3, seed=1) for _ in range(2)]
    np.testing.assert_array_equal(few[0][0], few[1][0])


def test_the_predictor_ranks_what_it_has_not_seen():
    rng = np.random.default_rng(0)
    rows = rng.choice([2, 4, 8], (300, 4))
    flags = rng.integers(0, 2, (300, 1))
    rows = np.concatenate([rows, flags], axis=1)
    truth = 0.5 + 0.02 * score(rows[:, :4]) + 0.1 * flags[:, 0]
    predictor = AccuracyPredictor((2, 4, 8), num_flags=1, units=50)
    predictor.fit(rows[:200], truth[:200], epochs=40)
    assert np.corrcoef(predictor(rows[200:]), truth[200:])[0, 1] > 0.95
    seen = []

    def recorded(rows):
        seen.append(rows)
        return predictor(rows)

    row, value = search_bits(
        recorded, 4, (2, 4, 8), 5.0, flags=(1,), population=20, generations=3, seed=0
    )
    assert row.shape == (4,) and (seen[-1][:, -1] == 1).all() and seen[-1].shape == (20, 5)
    averages = np.concatenate(seen)[:, :4].mean(1)
    assert (averages > 4.5).all() and (averages <= 5).all()
    assert value == pytest.approx(float(predictor([[*row, 1]])[0]), abs=1e-4)


def test_bad_arguments():
    with pytest.raises(ValueError, match="No 3 bit widths of"):
        search_bits(score, 3, (2, 4), 9.0)
    with pytest.raises(ValueError, match="`population` must be an integer of at least 4"):
        search_bits(score, 3, population=2)
    for make in (lambda bits: search_bits(score, 3, bits), AccuracyPredictor):
        for bits in ((4, 2), 4):
            with pytest.raises(ValueError, match="`bits` must be bit widths in ascending order"):
                make(bits)
    predictor = AccuracyPredictor((2, 4))
    with pytest.raises(ValueError, match="knows nothing yet"):
        predictor([[2, 4]])
    with pytest.raises(ValueError, match="`rows` must hold bits"):
        predictor.fit([[2, 3]], [0.5])
