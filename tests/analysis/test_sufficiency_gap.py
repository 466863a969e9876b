"""What scores of pairs of views lack to be sufficient."""

import keras
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.analysis import sufficiency_gap

RNG = np.random.default_rng(0)
JOINT = RNG.gamma(0.7, size=(5, 4)) + 0.02
SCORES = RNG.normal(size=(5, 4))

#: Derivative of f, its conjugate, and the least distance of a score below the shift at which that is finite.
DIVERGENCES = {
    "kl": (lambda r: np.log(r) + 1, lambda y: np.exp(y - 1), None),
    "chi_square": (lambda r: r - 1, lambda y: y + y**2 / 2, None),
    "hellinger": (lambda r: 1 - r**-0.5, lambda y: y / (1 - y), -1.0),
    "reverse_kl": (lambda r: -1 / r, lambda y: -1 - np.log(-y), 0.0),
}


def ratio(joint):
    p = joint / joint.sum()
    return p / (p.sum(1, keepdims=True) * p.sum(0))


def risk(scores, joint, divergence):
    """The contrastive loss, with the best shift of each row from a search."""
    _, conjugate, least = DIVERGENCES[divergence]
    p = joint / joint.sum()
    q, total = p.sum(0), -np.sum(p * scores)
    for row, s in zip(p, scores):
        bounds = (
            (s.min() - 9, s.max() + 9) if least is None else (s.max() + least + 1e-9, s.max() + 9)
        )
        found = minimize_scalar(
            lambda c, s=s: q @ conjugate(s - c) + c,
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-10},
        )
        total += row.sum() * found.fun
    return total


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_it_is_the_loss_above_that_of_the_best_scores(divergence):
    best = DIVERGENCES[divergence][0](ratio(JOINT))
    least = risk(best, JOINT, divergence)
    for scores in (SCORES, 5 * SCORES, best + 0.1 * SCORES):
        found = sufficiency_gap(scores, JOINT, divergence)
        assert found.gap == pytest.approx(risk(scores, JOINT, divergence) - least, abs=1e-6)
        assert found.gap > 1e-4
        assert found.information == pytest.approx(-least, abs=1e-6)
    shifted = sufficiency_gap(best + RNG.normal(size=(5, 1)), 3 * JOINT, divergence)
    assert shifted.gap == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_best_scores_of_a_statistic_lack_the_information_that_it_loses(divergence):
    groups = np.array([0, 1, 0, 1, 1])
    merged = np.stack([JOINT[groups == g].sum(0) for g in range(2)])
    of_groups = DIVERGENCES[divergence][0](ratio(merged))
    found = sufficiency_gap(of_groups[groups], JOINT, divergence)
    kept = sufficiency_gap(of_groups, merged, divergence)
    assert kept.gap == pytest.approx(0, abs=1e-12)
    assert found.gap == pytest.approx(found.information - kept.information) and found.gap > 0.01
    # Others of the same statistic are no better.
    assert sufficiency_gap(of_groups[groups] + SCORES[groups], JOINT, divergence).gap > found.gap


def test_in_a_batch_of_single_partners_it_is_the_loss_and_a_constant():
    a, b = RNG.normal(size=(2, 6, 3))
    constants = {"kl": np.log(6), "chi_square": 2.5, "hellinger": 2 - 2 / np.sqrt(6)}
    for divergence, constant in constants.items():
        loss = kr.losses.FDivergenceContrastive(divergence, 0.5, normalized=False)
        value = float(keras.ops.convert_to_numpy(loss(None, np.stack([a, b], axis=1))))
        found = sufficiency_gap(a @ b.T / 0.5, np.eye(6), divergence)
        assert found.information == pytest.approx(constant)
        assert found.gap == pytest.approx(value + constant, rel=1e-5)
    assert sufficiency_gap(a @ b.T, np.eye(6), "reverse_kl").gap == np.inf


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_at_the_edges(divergence):
    # What never occurs changes nothing, nor does a pair that occurs next to never.
    wide, scores = np.zeros((6, 5)), np.full((6, 5), 1e4)
    wide[:5, :4], scores[:5, :4] = JOINT, SCORES
    expected = sufficiency_gap(SCORES, JOINT, divergence)
    assert sufficiency_gap(scores, wide, divergence) == pytest.approx(expected)
    wide[5, 4] = 1e-250
    assert sufficiency_gap(scores, wide, divergence) == pytest.approx(expected)
    # Independent views share nothing, and equal scores lack all of it.
    assert sufficiency_gap(0 * SCORES, np.ones((5, 4)), divergence) == pytest.approx((0, 0))
    found = sufficiency_gap(0 * SCORES, JOINT, divergence)
    assert found.gap == pytest.approx(found.information)
    assert np.isfinite(sufficiency_gap(1e4 * SCORES, JOINT, divergence).gap)


def test_it_falls_with_what_an_encoder_keeps_of_digits():
    """Of images with noise, by principal components."""
    x, y = load_digits(return_X_y=True)
    x = (x[:600] - x[:600].mean(0)) / 16
    deviation = 0.5
    a, b = x + deviation * RNG.normal(size=(2, *x.shape))

    def shares(views):
        squares = np.sum(views**2, 1)[:, None] - 2 * views @ x.T + np.sum(x**2, 1)
        return softmax(-squares / (2 * deviation**2), axis=1)

    joint = shares(a) @ shares(b).T
    directions = np.linalg.svd(x, full_matrices=False)[2]
    gaps, accuracies = [], []
    for count in (1, 3, 8):
        u, v = a @ directions[:count].T, b @ directions[:count].T
        squares = np.sum((u[:, None] - v) ** 2, axis=-1)
        gaps.append(sufficiency_gap(-squares / (4 * deviation**2), joint).gap)
        known = x[:300] @ directions[:count].T, y[:300], x[300:] @ directions[:count].T, y[300:600]
        accuracies.append(kr.analysis.linear_probe(*known).accuracy)
    assert gaps == sorted(gaps, reverse=True) and accuracies == sorted(accuracies)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((SCORES, JOINT, "js"), "`divergence`"),
        ((SCORES, JOINT[:, :2]), "the same shape"),
        ((SCORES[0], JOINT[0]), "the same shape"),
        ((np.ones((0, 3)), np.ones((0, 3))), "the same shape"),
        ((SCORES, -JOINT), "numbers of at least 0"),
        ((SCORES, 0 * JOINT), "numbers of at least 0"),
        ((SCORES * np.nan, JOINT), "finite scores"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sufficiency_gap(*arguments)
