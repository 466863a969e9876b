"""Symmetric cross-entropy, the Z-error losses and the early-learning penalty."""

import keras
import numpy as np
import pytest

from keras_regularize.losses import (
    SymmetricCrossentropy,
    ZErrorBCE,
    ZErrorMSE,
    early_learning_penalty,
)
from keras_regularize.testing._common import to_numpy, values_and_gradients
from tests.helpers import evaluate_loss

INFINITE = float("inf")


def test_symmetric_crossentropy_adds_a_bounded_error():
    rng = np.random.default_rng(0)
    ids, z = rng.integers(0, 4, 6), rng.normal(0, 3, (6, 4))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    own = p[np.arange(6), ids]
    expected = -0.3 * np.log(own) + 2.0 * -np.log(1e-4) * (1 - own)
    for labels in (ids, np.eye(4)[ids]):
        for outputs, logits in ((z, True), (p, False)):
            value, _ = evaluate_loss(SymmetricCrossentropy(0.3, 2.0, logits), labels, outputs)
            np.testing.assert_allclose(value, expected, rtol=1e-4)
    soft = rng.dirichlet(np.ones(4), 6)
    expected = -0.3 * (soft * np.log(p)).sum(-1) - 2.0 * (p * np.log(soft)).sum(-1)
    value, _ = evaluate_loss(SymmetricCrossentropy(0.3, 2.0, True), soft, z)
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(9,), (9, 1)])
def test_an_outlier_teaches_nothing(shape):
    y, f = np.zeros(9), np.array([0.1, -0.2, 0.3, 0.0, -0.1, 9.0, 0.2, -0.3, 0.1])
    value, slope = evaluate_loss(ZErrorMSE(), y, f.reshape(shape))
    keep = np.arange(9) != 5
    np.testing.assert_allclose(value, np.where(keep, 9 / 8 * f**2, 0), rtol=1e-5)
    np.testing.assert_allclose(slope.ravel(), np.where(keep, 9 / 4 * f, 0), rtol=1e-5)
    # What counts is the distance to the other errors, not to zero.
    moved, _ = evaluate_loss(ZErrorMSE(), y + 50, f.reshape(shape))
    np.testing.assert_array_equal(moved > 0, keep)


def test_columns_have_masks_of_their_own():
    rng = np.random.default_rng(0)
    y, f = np.zeros((12, 2)), rng.normal(size=(12, 2))
    f[3, 0], f[7, 1] = 40.0, -300.0
    parts = [evaluate_loss(ZErrorMSE(), y[:, k], f[:, k])[0] for k in (0, 1)]
    np.testing.assert_allclose(
        evaluate_loss(ZErrorMSE(), y, f)[0], np.mean(parts, axis=0), rtol=1e-5
    )
    assert parts[0][3] == 0 and parts[1][7] == 0


def test_the_logit_of_a_wrong_label_is_an_outlier_of_its_class():
    y = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    z = np.array([3.0, 2.5, 3.5, 2.8, 3.2, -6.0, -3.0, -2.0, -2.5, -3.5])
    keep = np.arange(10) != 5
    bce = np.logaddexp(0, z) - y * z
    for labels, logits in ((y, z), (y[:, None], z[:, None])):
        value, slope = evaluate_loss(ZErrorBCE(), labels, logits)
        np.testing.assert_allclose(value, np.where(keep, 10 / 9 * bce, 0), rtol=1e-5)
        assert slope.ravel()[5] == 0 and np.all(slope.ravel()[keep] != 0)


def test_an_infinite_threshold_keeps_all():
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 2, 8).astype("float32"), rng.normal(0, 5, 8).astype("float32")
    np.testing.assert_allclose(float(ZErrorMSE(INFINITE)(y, z)), np.mean((y - z) ** 2), rtol=1e-5)
    reference = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = float(reference(y[:, None], z[:, None]))
    np.testing.assert_allclose(float(ZErrorBCE(INFINITE)(y, z)), expected, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 2.0, INFINITE])
def test_equal_errors_and_lone_members_are_kept(threshold):
    equal, f = np.full(7, 0.3), np.full(7, 1.4)
    value, _ = evaluate_loss(ZErrorMSE(threshold), equal, f)
    np.testing.assert_allclose(value, 1.1**2, rtol=1e-5)
    value, _ = evaluate_loss(ZErrorBCE(threshold), [1, 0, 0, 0], [-700.0, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(value, [700, *[np.logaddexp(0, 0.1)] * 3], rtol=1e-4)


def test_early_learning_penalty_pulls_towards_its_targets():
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(5, 4)), 0.9 * rng.dirichlet(np.ones(4), 5)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    inner = (t * p).sum(-1, keepdims=True)
    run = values_and_gradients(lambda z, t: early_learning_penalty(t, z))
    value, slope = map(to_numpy, run(z.astype("float32"), t.astype("float32")))
    np.testing.assert_allclose(value, np.log(1 - inner[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(slope, -p * (t - inner) / (1 - inner), rtol=1e-4, atol=1e-6)
    # Certain predictions stay finite, in half precision too.
    for dtype in ("float32", "float16"):
        extreme = 1e4 * np.eye(3, dtype=dtype)
        value, slope = map(to_numpy, run(extreme, np.eye(3, dtype=dtype)))
        np.testing.assert_allclose(value, np.log(1e-4), rtol=1e-3)
        assert np.all(np.isfinite(slope))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SymmetricCrossentropy(alpha=-1), "`alpha` must be a number at least 0. Received"),
        (lambda: ZErrorMSE(-1), "`threshold` must be a number at least 0. Received: threshold=-1"),
        (lambda: ZErrorBCE("two"), "`threshold` must be a number at least 0. Received"),
        (
            lambda: ZErrorMSE()(np.zeros((3, 2)), np.zeros((3, 4))),
            "Expected targets and predictions of equal shapes",
        ),
        (
            lambda: early_learning_penalty(np.ones((1, 3)), np.zeros((4, 3))),
            r"one shape. Received: targets.shape=\(1, 3\), y_pred.shape=\(4, 3\)",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
