"""The representation game: closed forms against the definition, and the algorithm against them."""

import numpy as np
import pytest

import keras_regularize as kr

pytestmark = pytest.mark.once


def matrices(d=5, seed=0):
    rng = np.random.default_rng(seed)
    return [m @ m.T / d for m in rng.normal(size=(2, d, d))]


def worst_regret(covariance, prior, weights, representations):
    """The largest mean regret over tasks of the prior, by its definition."""
    total = np.zeros_like(covariance)
    for weight, r in zip(weights, representations):
        sr = covariance @ r
        total += weight * (covariance - sr @ np.linalg.pinv(r.T @ sr) @ sr.T)
    root = np.linalg.cholesky(prior + 1e-12 * np.eye(len(prior)))
    return np.linalg.eigvalsh(root.T @ total @ root)[-1]


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_closed_forms_have_the_regret_that_they_promise(rank, seed):
    covariance, prior = matrices(seed=seed)
    pure = kr.analysis.minimax_linear_regret(covariance, prior, rank)
    r = kr.analysis.minimax_linear_representation(covariance, prior, rank)
    assert worst_regret(covariance, prior, [1.0], [r]) == pytest.approx(pure, rel=1e-6)
    np.testing.assert_allclose(r.T @ covariance @ r, np.eye(rank), atol=1e-8)
    mixed = kr.analysis.minimax_linear_regret(covariance, prior, rank, randomized=True)
    weights, choices = kr.analysis.randomized_linear_representation(covariance, prior, rank)
    assert weights.sum() == pytest.approx(1) and all(c.shape == (5, rank) for c in choices)
    assert worst_regret(covariance, prior, weights, choices) == pytest.approx(mixed, rel=1e-6)
    assert mixed <= pure + 1e-12
    # No other representation does better.
    rng = np.random.default_rng(2)
    others = rng.normal(size=(50, 5, rank)) if rank else np.zeros((1, 5, 0))
    assert min(worst_regret(covariance, prior, [1.0], [o]) for o in others) >= pure - 1e-9


def test_limits_of_the_game():
    flat = np.eye(4)
    assert kr.analysis.minimax_linear_regret(flat, 2 * flat, 3, randomized=True) == pytest.approx(
        0.5
    )
    assert kr.analysis.minimax_linear_regret(flat, 2 * flat, 3) == pytest.approx(2)
    for randomized in (False, True):
        assert kr.analysis.minimax_linear_regret(flat, flat, 4, randomized) == 0
        assert (
            kr.analysis.minimax_linear_regret(np.diag([1.0, 1, 0]), np.eye(3), 2, randomized) == 0
        )
    covariance, _ = matrices()
    r = kr.analysis.minimax_linear_representation(covariance, np.eye(5), 2)
    components = np.linalg.eigh(covariance)[1][:, -2:]
    np.testing.assert_allclose(components @ components.T @ r, r, atol=1e-8)
    with pytest.raises(ValueError, match="square matrices of one size"):
        kr.analysis.minimax_linear_regret(np.eye(3), np.eye(2), 1)
    with pytest.raises(ValueError, match="`prior` must be symmetric and positive semidefinite"):
        kr.analysis.minimax_linear_regret(np.eye(2), -np.eye(2), 1)


def test_the_game_comes_to_its_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3)) @ np.diag([1.5, 1.2, 1.0])
    x = x - x.mean(0)
    covariance, prior = x.T @ x / len(x), np.diag([1.0, 0.8, 1.2])
    game = kr.models.RepresentationGame(1, rounds=6, steps=40, seed=0).fit(x, prior)
    value = kr.analysis.minimax_linear_regret(covariance, prior, 1, randomized=True)
    true = worst_regret(covariance, prior, game.weights, game.representations)
    assert game.regret == pytest.approx(true, rel=0.03)
    assert value * 0.999 < true < 1.15 * value
    assert true < 0.95 * kr.analysis.minimax_linear_regret(covariance, prior, 1)
    assert len(game.history) == 6 and game.task_weights.sum() == pytest.approx(1)
    for f in game.tasks:
        assert f @ np.linalg.inv(prior) @ f == pytest.approx(1, rel=1e-5)
    other = kr.models.RepresentationGame(1, "mean_absolute_error", rounds=2, steps=20, seed=0)
    assert 0 < other.fit(x, prior).regret < np.abs(x).max()
    with pytest.raises(ValueError, match="inputs \\(n, d\\) of at least 1 columns"):
        game.fit(x, np.eye(2))
