"""ACLS, MbLS, MDCA, FLSD, SpectralDecoupling: what holds beyond the golden cases and the contract."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.losses import ACLS, FLSD, MDCA, MbLS, SpectralDecoupling
from keras_regularize.testing._common import to_numpy
from tests.helpers import evaluate_loss


def random_case(batch=7, classes=5, scale=6.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, batch), (scale * rng.normal(size=(batch, classes))).astype(
        "float32"
    )


@pytest.mark.parametrize(
    "loss",
    [
        ACLS(alpha=0.0),
        ACLS(margin=1e3),
        MbLS(alpha=0.0),
        MbLS(margin=1e3),
        MDCA(factor=0.0),
        FLSD(0.0, 0.0),
        SpectralDecoupling(0.0),
    ],
    ids=lambda loss: loss.name,
)
def test_without_its_penalty_a_loss_is_cross_entropy(loss):
    ids, z = random_case()
    reference = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    expected = to_numpy(reference(ids, z))
    np.testing.assert_allclose(evaluate_loss(loss, ids, z)[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [ACLS(0.5, margin=2.0), MbLS(0.5, margin=2.0), FLSD(), MDCA()])
def test_one_column_is_the_logit_of_class_one(loss):
    ids, score = np.array([0, 1, 1]), np.array([[0.3], [-9.0], [7.5]], "float32")
    both = np.concatenate([np.zeros_like(score), score], axis=-1)
    value, slope = evaluate_loss(loss, ids, score)
    expected, slopes = evaluate_loss(loss, ids, both)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(slope[:, 0], slopes[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("top", [12.0, 0.0, -3.0])
def test_acls_counts_every_tied_top(top):
    z = np.array([[top, top, top - 5.0, top]], "float32")
    loss = ACLS(1.0, 0.7, 0.3, margin=2.0)
    plain = evaluate_loss(ACLS(0.0), [2], z)
    value, slope = evaluate_loss(loss, [2], z)
    over = max(top - 2.0, 0.0)
    np.testing.assert_allclose(
        value - plain[0], [3 * 0.7 * over**2 + 0.3 / 3 * 9.0], rtol=1e-5, atol=1e-5
    )
    pushed = 0.7 * 2 * over
    np.testing.assert_allclose(
        slope - plain[1], [[pushed, pushed, -0.3 / 3 * 6.0, pushed]], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("alpha, negative", [(0.0, 0.1), (0.5, 0.0)])
def test_acls_without_its_second_sum_is_finite_at_a_forbidden_class(alpha, negative, rows):
    z = np.array([[5.0, 1.0, -np.inf], [-np.inf, 0.5, 4.0]], "float32")
    labels = np.eye(3, dtype="float32")[[0, 1]] if rows else np.array([0, 1])
    value, slope = evaluate_loss(ACLS(alpha, 1.0, negative, margin=2.0), labels, z)
    own, other = np.array([5.0, 0.5]), np.array([1.0, 4.0])
    crossentropy = np.log1p(np.exp(other - own))
    np.testing.assert_allclose(value, crossentropy + alpha * np.array([9.0, 4.0]), rtol=1e-5)
    p = np.exp(z - np.logaddexp(own, other)[:, None])
    expected = p - np.eye(3)[[0, 1]]
    expected[0, 0] += alpha * 2 * 3.0
    expected[1, 2] += alpha * 2 * 2.0
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def test_acls_leaves_logits_within_the_margin_alone():
    z = np.array([[6.0, 0.0, 3.0], [-1.0, -7.0, -2.0]])
    for got, expected in zip(
        evaluate_loss(ACLS(2.0, margin=6.0), [0, 1], z), evaluate_loss(ACLS(0.0), [0, 1], z)
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    outside = (
        evaluate_loss(ACLS(2.0, margin=5.9), [0, 1], z)[0] - evaluate_loss(ACLS(0.0), [0, 1], z)[0]
    )
    assert np.all(outside > 1e-4)


def test_shifts():
    ids, z = random_case()
    shifted = z + 8.0
    for loss in (MbLS(0.5, 3.0), MDCA(2.0, 1.0), FLSD(), ACLS(0.5, 0.0, 1.0, 3.0)):
        np.testing.assert_allclose(
            evaluate_loss(loss, ids, shifted)[0],
            evaluate_loss(loss, ids, z)[0],
            rtol=1e-4,
            atol=1e-4,
        )
    for loss in (ACLS(0.5, 1.0, 0.0, 3.0), SpectralDecoupling()):
        change = evaluate_loss(loss, ids, shifted)[0] - evaluate_loss(loss, ids, z)[0]
        assert np.all(np.abs(change) > 1e-2)


def test_mbls_moves_the_first_top_at_ties():
    z = np.array([[4.0, 4.0, 0.0]], "float32")
    change = evaluate_loss(MbLS(0.6, 1.0), [0], z)[1] - evaluate_loss(MbLS(0.0), [0], z)[1]
    np.testing.assert_allclose(change, [[0.2, 0.0, -0.2]], atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_mean_of_mdca_is_the_loss_of_the_batch(gamma):
    ids, z = random_case(batch=9)
    z = z.astype("float64")
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    focal = [-((1 - p[i, y]) ** gamma) * np.log(p[i, y]) for i, y in enumerate(ids)]
    gaps = [abs(sum(p[i, k] - (ids[i] == k) for i in range(9)) / 9) for k in range(5)]
    expected = np.mean(focal) + 3.0 * np.mean(gaps)
    np.testing.assert_allclose(float(MDCA(3.0, gamma)(ids, z)), expected, rtol=1e-5)
    by_position = MDCA(3.0, gamma)(ids.reshape(3, 3), z.reshape(3, 3, 5))
    np.testing.assert_allclose(float(by_position), expected, rtol=1e-5)


def test_flsd_takes_the_larger_exponent_for_improbable_labels():
    p = np.array([[0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    loss = FLSD(2.0, 4.0, threshold=0.25)
    np.testing.assert_allclose(
        evaluate_loss(loss, [0, 0, 1], np.log(p))[0],
        [-(0.9**4) * np.log(0.1), -(0.7**2) * np.log(0.3), -(0.2**2) * np.log(0.8)],
        rtol=1e-4,
    )


def test_spectral_decoupling_targets_belong_to_the_class_of_the_sample():
    ids, z = random_case(4, 3)
    targets = np.array([0.5, -1.0, 2.0])
    plain = evaluate_loss(SpectralDecoupling(0.0), ids, z)[0]
    loss = SpectralDecoupling(0.3, targets)
    expected = plain + 0.3 * np.mean((z - targets[ids][:, None]) ** 2, axis=-1)
    np.testing.assert_allclose(evaluate_loss(loss, ids, z)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(evaluate_loss(loss, np.eye(3)[ids], z)[0], expected, rtol=1e-5)
    soft = np.array([[0.5, 0.0, 0.5]])
    change = (
        evaluate_loss(loss, soft, z[:1])[0] - evaluate_loss(SpectralDecoupling(0.0), soft, z[:1])[0]
    )
    np.testing.assert_allclose(change, [0.3 * np.mean((z[0] - 1.25) ** 2)], rtol=1e-4)
    with pytest.raises(ValueError, match="one entry for each of the 3 classes. Received: target="):
        SpectralDecoupling(0.1, [1.0, 2.0]).call(ids, ops.convert_to_tensor(z))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ACLS(margin=-1), "`margin` must be a number at least 0. Received: margin=-1"),
        (lambda: ACLS(negative_factor="a"), "`negative_factor` must be a number at least 0"),
        (lambda: MbLS(alpha=-0.1), "`alpha` must be a number at least 0. Received: alpha=-0.1"),
        (lambda: MDCA(gamma=-2), "`gamma` must be a number at least 0. Received: gamma=-2"),
        (lambda: FLSD(threshold=1.5), "`threshold` must be a number at least 0 and at most 1"),
        (lambda: SpectralDecoupling(target=["a"]), "`target` must be a number. Received"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
