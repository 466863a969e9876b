"""PolyFocal, ZLoss, Sparsemax and Entmax: what holds beyond the golden cases and the contract."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.activations import entmax
from keras_regularize.losses import Entmax, PolyFocal, Sparsemax, ZLoss
from keras_regularize.testing._common import to_numpy
from tests.helpers import evaluate_loss


def random_case(batch=7, classes=5, scale=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, batch), (scale * rng.normal(size=(batch, classes))).astype(
        "float32"
    )


# PolyFocal


def poly_focal(t, z, epsilon, gamma, alpha):
    t, p = np.asarray(t, "float64"), 1 / (1 + np.exp(-np.asarray(z, "float64")))
    total = 0.0
    for a, b in zip(t.ravel(), p.ravel()):
        error = 1 - (a * b + (1 - a) * (1 - b))
        balance = 1.0 if alpha is None else alpha * a + (1 - alpha) * (1 - a)
        bce = -a * np.log(b) - (1 - a) * np.log(1 - b)
        total += balance * (error**gamma * bce + epsilon * error ** (gamma + 1))
    return total / t.size


@pytest.mark.parametrize("config", [(1.0, 2.0, None), (-0.5, 0.5, 0.25), (2.0, 0.0, 0.9)])
def test_poly_focal_equals_a_loop_on_logits_and_probabilities(config):
    _, z = random_case(4, 3)
    t = np.random.default_rng(1).choice([0.0, 1.0, 0.3], (4, 3))
    expected = [poly_focal(a, b, *config) for a, b in zip(t, z)]
    value, _ = evaluate_loss(PolyFocal(*config, from_logits=True), t, z)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    value, _ = evaluate_loss(PolyFocal(*config), t, 1 / (1 + np.exp(-z)))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_poly_focal_of_one_output_takes_soft_targets_in_any_rank():
    t, z = np.array([0.0, 1.0, 0.8]), np.array([0.3, -2.0, 1.5])
    expected = [poly_focal(np.array([a]), np.array([b]), 1.0, 2.0, None) for a, b in zip(t, z)]
    for y in (t, t[:, None]):
        for scores in (z, z[:, None]):
            value, _ = evaluate_loss(PolyFocal(from_logits=True), y, scores)
            np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_poly_focal_clips_probabilities_alike_at_both_ends():
    value, slope = evaluate_loss(PolyFocal(0.0, gamma=0.0), [[0.0, 1.0]], [[1.0, 0.0]])
    assert value == pytest.approx(-np.log(1e-7), rel=1e-5) and not slope.any()


# ZLoss


def test_z_loss_ignores_shift_and_scale_and_its_gradient_is_orthogonal_to_both():
    ids, z = random_case()
    value, slope = evaluate_loss(ZLoss(0.7, 2.0), ids, z)
    np.testing.assert_allclose(evaluate_loss(ZLoss(0.7, 2.0), ids, 5 * z + 3)[0], value, rtol=1e-4)
    np.testing.assert_allclose(slope.sum(-1), 0, atol=1e-6)
    np.testing.assert_allclose((slope * z).sum(-1), 0, atol=1e-5)
    soft = np.random.default_rng(1).dirichlet(np.ones(5), 7)
    centred = z - z.mean(-1, keepdims=True)
    zeta = (soft * centred).sum(-1) / np.sqrt((centred**2).mean(-1))
    expected = np.log1p(np.exp(0.7 * (2.0 - zeta))) / 0.7
    np.testing.assert_allclose(evaluate_loss(ZLoss(0.7, 2.0), soft, z)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("size", [0.0, 0.1, 1e4])
def test_z_loss_of_equal_logits_has_no_gradient(size):
    value, slope = evaluate_loss(ZLoss(shift=1.0), [0, 4], np.full((2, 7), size))
    np.testing.assert_allclose(value, np.log1p(np.e), rtol=1e-6)
    assert np.all(slope == 0)


def test_z_loss_far_from_zero_is_not_rounded():
    ids, z = random_case()
    z = np.round(8 * np.asarray(z)) / 8  # These stay exact when a thousand is added.
    (value, slope), (far, far_slope) = (evaluate_loss(ZLoss(), ids, z + c) for c in (0.0, 1024.0))
    np.testing.assert_allclose(far, value, rtol=1e-6)
    np.testing.assert_allclose(far_slope, slope, atol=1e-6)


# Sparsemax and Entmax


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0, 3.0])
def test_entmax_equals_the_definition_and_its_gradient_is_the_error(alpha):
    ids, z = random_case(6, 5)
    p = to_numpy(entmax(z, alpha)).astype("float64")
    soft = np.random.default_rng(1).dirichlet(np.ones(5), 6)

    def entropy(p):
        if alpha == 1:
            return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=-1)
        return (1 - np.sum(p**alpha, axis=-1)) / (alpha * (alpha - 1))

    for labels, t in ((ids, np.eye(5)[ids]), (soft, soft)):
        value, slope = evaluate_loss(Entmax(alpha), labels, z)
        expected = np.sum((p - t) * z, axis=-1) + entropy(p) - entropy(t)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(slope, p - t, atol=2e-5)


def test_entmax_of_one_is_cross_entropy():
    ids, z = random_case()
    reference = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    np.testing.assert_allclose(
        evaluate_loss(Entmax(1.0), ids, z)[0], to_numpy(reference(ids, z)), rtol=1e-5
    )


@pytest.mark.parametrize("loss, margin", [(Sparsemax(), 1.0), (Entmax(1.5), 2.0), (Entmax(3), 0.5)])
def test_beyond_the_margin_there_is_no_loss(loss, margin):
    z = np.array([[margin + 1e-3, 0.0, 0.0], [margin - 0.1, 0.0, -9.0], [1e4, 0.0, -1e4]])
    value, slope = evaluate_loss(loss, [0, 0, 0], z)
    np.testing.assert_allclose(value[[0, 2]], 0, atol=1e-6)
    assert np.all(slope[[0, 2]] == 0)
    assert value[1] > 0 and slope[1, 0] < 0


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_entmax_is_convex(alpha):
    (ids, a), (_, b) = random_case(40), random_case(40, seed=1)
    ends = evaluate_loss(Entmax(alpha), ids, a)[0] + evaluate_loss(Entmax(alpha), ids, b)[0]
    assert np.all(evaluate_loss(Entmax(alpha), ids, (a + b) / 2)[0] <= ends / 2 + 1e-5)


def test_sparsemax_of_two_classes_is_the_modified_huber_loss():
    lead = np.array([-3.0, -1.0, -0.3, 0.4, 1.0, 2.0])
    z = np.stack([lead, np.zeros(6)], axis=-1)
    expected = [-d if d < -1 else (max(1 - d, 0) ** 2) / 4 for d in lead]
    np.testing.assert_allclose(
        evaluate_loss(Sparsemax(), np.zeros(6, int), z)[0], expected, atol=1e-6
    )
    np.testing.assert_allclose(
        evaluate_loss(Sparsemax(), np.ones(6, int), lead[:, None])[0], expected, atol=1e-6
    )


def test_a_masked_class_does_not_count():
    z = np.array([[0.3, -np.inf, 0.1, -0.4]], "float32")
    value, slope = evaluate_loss(Sparsemax(), [0], z)
    expected, slopes = evaluate_loss(Sparsemax(), [0], z[:, [0, 2, 3]])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope[:, [0, 2, 3]], slopes, atol=1e-6)
    assert slope[0, 1] == 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PolyFocal(gamma=-1), "`gamma` must be a number at least 0. Received: gamma=-1"),
        (
            lambda: PolyFocal(alpha=2),
            "`alpha` must be a number at least 0 and at most 1 or None. Received",
        ),
        (lambda: ZLoss(scale=0), "`scale` must be a number above 0. Received: scale=0"),
        (lambda: Entmax(0.5), "`alpha` must be a number at least 1. Received: alpha=0.5"),
        (
            lambda: PolyFocal().call(np.zeros(3), ops.zeros((4, 1))),
            r"Expected targets and predictions of equal shapes, .* Received: y_true.shape=\(3,\)",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
