"""Losses from draws alone: against loops, and the expectations that they are unbiased for."""

from collections import Counter

import numpy as np
import pytest

from keras_regularize.generative import (
    black_box_cross_entropy,
    black_box_square_loss,
    sequential_cross_entropy,
)

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])


def test_the_square_loss_takes_whatever_can_be_told_apart():
    expected = black_box_square_loss([0, 1, 1, 2], [1, 2])
    for outcomes in (["a", "b", "c"], [(0, 1), (1, 0), (1, 1)], [[0, 1], [1, 0], [1, 1]]):
        draws = [outcomes[i] for i in (0, 1, 1, 2)]
        targets = [outcomes[i] for i in (1, 2)]
        for kind in (list, tuple, np.array):
            assert black_box_square_loss(kind(draws), kind(targets)) == expected
    ragged = black_box_square_loss([(0,), (1, 2), (1, 2), ()], [(1, 2), ()])
    assert ragged == expected


def test_the_square_loss_is_unbiased_and_prefers_the_target():
    rng = np.random.default_rng(0)
    losses = {"p": [], "q": []}
    for _ in range(2000):
        targets = rng.choice(3, 8, p=Q)
        for name, model in (("p", P), ("q", Q)):
            losses[name].append(black_box_square_loss(rng.choice(3, 6, p=model), targets))
    for name, model in (("p", P), ("q", Q)):
        expected = np.sum(model**2) - 2 * np.sum(model * Q)
        error = np.std(losses[name]) / np.sqrt(2000)
        assert np.mean(losses[name]) == pytest.approx(expected, abs=4 * error)
    assert np.mean(losses["q"]) < np.mean(losses["p"]) - 0.1


def test_cross_entropy_equals_a_loop_and_takes_mappings():
    def series(m, rate):
        total, product = 0.0, 1.0
        for j in range(1, m + 1):
            product *= (m - j + 1) / rate
            total += product / j
        return total

    counts = [4, 0, 9, 2]
    values = [series(15 - counts[t], 7.5) for t in (0, 1, 1, 3)]
    value, error = black_box_cross_entropy(counts, [0, 1, 1, 3], 7.5, return_standard_error=True)
    assert value == pytest.approx(np.mean(values))
    assert error == pytest.approx(np.std(values, ddof=1) / 2)
    names = Counter({"a": 4, "c": 9, "d": 2})
    assert black_box_cross_entropy(names, ["a", "b", "b", "d"], 7.5) == pytest.approx(value)
    alone = black_box_cross_entropy(counts, [0], 7.5, return_standard_error=True)
    assert np.isnan(alone[1])
    assert black_box_cross_entropy([0, 5000], [0], 1.0) == np.inf  # What no float holds.


def test_cross_entropy_is_unbiased():
    # The expectation over Poisson numbers of draws, by summing it up.
    rate, m = 6.0, np.arange(60)
    for t, p in enumerate(P):
        others = rate * (1 - p)
        log_factorial = np.cumsum(np.log(np.maximum(m, 1)))
        poisson = np.exp(m * np.log(others) - others - log_factorial)
        values = [black_box_cross_entropy(np.eye(3)[(t + 1) % 3] * k, [t], rate) for k in m]
        assert np.sum(poisson * values) == pytest.approx(-np.log(p), rel=1e-6)


def test_the_sequential_estimate_equals_a_loop():
    drawn = []

    def sampler(n):
        drawn.append(rng.choice(3, size=n, p=P))
        return drawn[-1]

    rng = np.random.default_rng(0)
    targets = rng.choice(3, 500, p=Q)
    value, error = sequential_cross_entropy(sampler, targets, 16, return_standard_error=True)
    stream, values = iter(np.concatenate(drawn)), []
    for target in targets:
        harmonic, misses = 0.0, 0
        while next(stream) != target:
            misses += 1
            harmonic += 1 / misses
        values.append(harmonic)
    assert len(list(stream)) < 16  # No draw is wasted.
    assert value == pytest.approx(np.mean(values))
    assert error == pytest.approx(np.std(values, ddof=1) / np.sqrt(500))
    assert value == pytest.approx(-np.sum(Q * np.log(P)), abs=4 * error)


def test_the_sequential_estimate_is_unbiased_with_bounded_variance():
    for p in (0.9, 0.3, 0.01):
        misses = np.arange(int(40 / p))
        harmonic = np.concatenate([[0], np.cumsum(1 / misses[1:])])
        probability = p * (1 - p) ** misses
        mean = np.sum(probability * harmonic)
        assert mean == pytest.approx(-np.log(p))
        assert np.sum(probability * harmonic**2) - mean**2 < np.pi**2 / 6


def test_what_the_model_never_gives_has_no_finite_cross_entropy():
    calls = []

    def sampler(n):
        calls.append(n)
        return ["a"] * n

    value, error = sequential_cross_entropy(sampler, ["a", "b"], 10, 95, True)
    assert value == np.inf and np.isnan(error) and len(calls) == 10
    assert sequential_cross_entropy(sampler, ["a"]) == 0.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: black_box_square_loss([1], [1]), "at least two draws.*Received: 1 and 1"),
        (lambda: black_box_square_loss([1, 2], []), "at least two draws.*Received: 2 and 0"),
        (lambda: black_box_cross_entropy([1, 2], [0], 0), "`rate` must be a number above 0"),
        (lambda: black_box_cross_entropy([1, 2], [2], 3), "ids from 0 to 1. Received: 2"),
        (lambda: black_box_cross_entropy([1, -2], [0], 3), "`counts` must be at least 0"),
        (lambda: black_box_cross_entropy([1, 2], [], 3), "at least one draw"),
        (lambda: black_box_cross_entropy([[1, 2]], [0], 3), r"`counts` must be of .*=\(1, 2\)"),
        (lambda: sequential_cross_entropy(lambda n: [0], [0]), "must return 128 draws"),
        (lambda: sequential_cross_entropy(np.zeros, [0], 0), "`batch_size` must be"),
        (lambda: sequential_cross_entropy(np.zeros, [0], 1, 0), "`max_draws` must be"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
