"""Policies of bandits, and estimates of losses that were not seen."""

import itertools

import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy

pytestmark = pytest.mark.once

FEATURES = np.random.default_rng(0).normal(size=(4, 3))
POLICY = np.array([0.55, 0.25, 0.15, 0.05])


def test_estimates_are_unbiased_and_bounded():
    losses = np.array([0.2, 0.9, 0.4, 0.6])
    covariance = np.einsum("a,ai,aj->ij", POLICY, FEATURES, FEATURES)
    theta = np.linalg.solve(covariance, np.einsum("a,ai,a->i", POLICY, FEATURES, losses))
    totals, gain = np.zeros((2, 4)), 0.0
    for chosen, *samples in itertools.product(range(4), repeat=3):
        estimates = kr.analysis.magnitude_reduced_losses(
            FEATURES,
            FEATURES[chosen],
            losses[chosen],
            np.linalg.inv(covariance),
            FEATURES[samples],
        )
        totals += np.prod(POLICY[[chosen, *samples]]) * np.array(estimates)
        products = np.minimum(FEATURES @ np.linalg.inv(covariance) @ FEATURES[samples].T, 0)
        assert (estimates.reduced >= products.mean(axis=1) - 1e-9).all()
        gain = max(gain, (estimates.reduced - estimates.unbiased).max())
    # That of least squares, which is the loss where losses are linear.
    np.testing.assert_allclose(totals, [FEATURES @ theta] * 2, atol=1e-12)
    assert gain > 0.5


def test_the_policy_is_the_minimum():
    policy = kr.analysis.LogBarrierFTRL(4, learning_rate=0.3)
    np.testing.assert_array_equal(policy.probabilities, np.full(4, 0.25))
    losses = np.array([0.5, -3.0, 1e4, 2.0])
    policy.update(losses - 1.0)
    policy.update(np.ones(4))
    p = policy.probabilities
    assert p.sum() == pytest.approx(1, abs=1e-14)
    # Stationary: η ℓ_a - 1 / p_a is one number for all.
    multipliers = 0.3 * losses - 1 / p
    np.testing.assert_allclose(multipliers, multipliers[0], rtol=1e-10)
    expected = kr.activations.log_barrier_simplex(-losses.astype("float32"), 0.3)
    np.testing.assert_allclose(p, to_numpy(expected), rtol=1e-4)
    states = kr.analysis.LogBarrierFTRL(4, learning_rate=0.3, states=2)
    states.update([losses, 0 * losses])
    np.testing.assert_allclose(states.probabilities[0], p)
    np.testing.assert_allclose(states.probabilities[1], 0.25)


def test_actions_are_drawn_by_their_probabilities():
    policy = kr.analysis.LogBarrierFTRL(3, learning_rate=1.0)
    policy.update([0.0, 1.0, 5.0])
    rng = np.random.default_rng(0)
    counts = np.bincount([policy.sample(rng) for _ in range(3000)], minlength=3)
    np.testing.assert_allclose(counts / 3000, policy.probabilities, atol=0.03)
    assert policy.sample(3) == policy.sample(3)
    states = kr.analysis.LogBarrierFTRL(2, 1.0, states=2)
    states.update([[0.0, 1e9], [1e9, 0.0]])
    assert [states.sample(0, state=0), states.sample(0, state=1)] == [0, 1]


def test_the_regret_in_a_bandit_is_small():
    rounds, rng = 3000, np.random.default_rng(0)
    losses = (rng.random((rounds, 5)) < [0.5, 0.5, 0.3, 0.5, 0.5]).astype(float)
    policy, paid = kr.analysis.LogBarrierFTRL(5, np.sqrt(5 * np.log(rounds) / rounds)), 0.0
    for loss in losses:
        action = policy.sample(rng)
        paid += loss[action]
        # With the loss less 1 estimates are negative: the barrier bears them.
        policy.update(np.where(np.arange(5) == action, (loss - 1) / policy.probabilities, 0.0))
    regret = paid - losses.sum(axis=0).min()
    assert regret < 0.4 * (losses.mean() - losses[:, 2].mean()) * rounds


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kr.analysis.LogBarrierFTRL(0, 1.0), "`actions` must be"),
        (lambda: kr.analysis.LogBarrierFTRL(2, 0.0), "`learning_rate` must be"),
        (lambda: kr.analysis.LogBarrierFTRL(2, 1.0).update([1.0]), "must be finite numbers"),
        (lambda: kr.analysis.LogBarrierFTRL(2, 1.0).update([1.0, np.nan]), "must be finite"),
        (lambda: kr.analysis.LogBarrierFTRL(2, 1.0).sample(state=1), "needs a `state` if"),
        (lambda: kr.analysis.LogBarrierFTRL(2, 1.0, states=3).sample(state=-1), "`state` must be"),
        (lambda: kr.analysis.LogBarrierFTRL(2, 1.0, states=3).sample(state=3), "at most 2"),
        (
            lambda: kr.analysis.magnitude_reduced_losses(
                np.eye(2), [1.0], 0.1, np.eye(2), np.eye(2)
            ),
            "Expected features",
        ),
        (
            lambda: kr.analysis.magnitude_reduced_losses(
                np.eye(2), [1.0, 0.0], 1.5, np.eye(2), np.eye(2)
            ),
            "`loss` must be",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
