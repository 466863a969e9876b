"""LogitAdjusted, LDAM, Seesaw, AnyLoss and class weights: what holds beyond the golden cases and the contract."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.losses import LDAM, AnyLoss, LogitAdjusted, Seesaw, class_balanced_weights
from tests.helpers import evaluate_loss

COUNTS = [100, 30, 8, 3]


def random_case(batch=7, classes=4, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, batch), (scale * rng.normal(size=(batch, classes))).astype(
        "float32"
    )


def crossentropy(ids, z):
    z = np.asarray(z, "float64")
    log_sum = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)
    return log_sum - z[np.arange(len(ids)), ids]


def seesaw(ids, z, p, q):
    values = []
    for y, row in zip(ids, np.asarray(z, "float64")):
        s = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        total = np.exp(row[y] - row.max())
        for k in range(len(row)):
            if k != y:
                m = min(1.0, COUNTS[k] / COUNTS[y]) ** p
                c = max(1.0, s[k] / max(s[y], 0.01)) ** q
                total += m * c * np.exp(row[k] - row.max())
        values.append(np.log(total) - (row[y] - row.max()))
    return values


@pytest.mark.parametrize("p, q", [(0.8, 2.0), (0.0, 1.0), (1.5, 0.0)])
def test_seesaw_equals_a_loop(p, q):
    ids, z = random_case(batch=9)
    loss = Seesaw(COUNTS, p, q)
    for labels in (ids, np.eye(4)[ids]):
        np.testing.assert_allclose(
            evaluate_loss(loss, labels, z)[0], seesaw(ids, z, p, q), rtol=1e-4
        )


def test_large_logits_do_not_round_the_prior_away():
    ids, z = random_case()
    prior = np.array(COUNTS) / np.sum(COUNTS)
    value, slope = evaluate_loss(LogitAdjusted(COUNTS), ids, np.full_like(z, 1e4))
    np.testing.assert_allclose(value, -np.log(prior[ids]), rtol=1e-5)
    np.testing.assert_allclose(slope, prior - np.eye(4)[ids], rtol=1e-5)


@pytest.mark.parametrize("loss", [LDAM(COUNTS, 0.5, 10.0), Seesaw(COUNTS)], ids=["LDAM", "Seesaw"])
def test_large_logits_round_nothing_else_away(loss):
    ids, z = random_case()
    z = np.round(8 * z) / 8  # Steps that float32 still has at 1e4.
    for found, expected in zip(evaluate_loss(loss, ids, z + 1e4), evaluate_loss(loss, ids, z)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_factors_have_no_gradient():
    ids, z = random_case()
    value, slope = evaluate_loss(Seesaw(COUNTS), ids, z)
    np.testing.assert_allclose(slope[np.arange(7), ids], np.expm1(-value), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss, change",
    [
        (LogitAdjusted(COUNTS, 0.0), lambda ids, z: z),
        (LogitAdjusted([7] * 4, 2.0), lambda ids, z: z),
        (LogitAdjusted(COUNTS, 0.5), lambda ids, z: z + 0.5 * np.log(COUNTS)),
        (LDAM(COUNTS, 0.0, 1.0), lambda ids, z: z),
        (Seesaw(COUNTS, 0.0, 0.0), lambda ids, z: z),
        (
            LDAM(COUNTS, 0.4, 3.0),
            lambda ids, z: 3 * (z - 0.4 * np.eye(4)[ids] * (3 / np.array(COUNTS)) ** 0.25),
        ),
    ],
)
def test_is_cross_entropy_of_changed_logits(loss, change):
    ids, z = random_case()
    expected = crossentropy(ids, change(ids, z.astype("float64")))
    for labels in (ids, np.eye(4)[ids]):
        np.testing.assert_allclose(
            evaluate_loss(loss, labels, z)[0], expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("make", [LogitAdjusted, LDAM, Seesaw])
def test_counts_of_two_classes_go_with_one_column(make):
    ids, score = np.array([0, 1, 1]), np.array([[0.3], [-1.0], [0.5]], "float32")
    both = np.concatenate([np.zeros_like(score), score], axis=-1)
    expected = evaluate_loss(make([50, 5]), ids, both)[0]
    np.testing.assert_allclose(evaluate_loss(make([50, 5]), ids, score)[0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="Received 3 counts for y_pred with 2 classes"):
        make([50, 5, 1]).call(ids, ops.convert_to_tensor(both))


def test_class_balanced_weights_equal_a_loop():
    for beta in (0.0, 0.9, 0.9999):
        raw = [(1 - beta) / (1 - beta**n) for n in COUNTS]
        expected = [4 * w / sum(raw) for w in raw]
        np.testing.assert_allclose(class_balanced_weights(COUNTS, beta), expected, rtol=1e-9)
    inverse = 1 / np.array(COUNTS)
    expected = 4 * inverse / inverse.sum()
    np.testing.assert_allclose(class_balanced_weights(COUNTS, 1), expected, rtol=1e-9)
    near = class_balanced_weights(COUNTS, 1 - 1e-12)
    np.testing.assert_allclose(near, expected, rtol=1e-3)


# AnyLoss

LABELS = np.array([1, 0, 0, 1, 0, 1, 0, 0])
SCORES = np.array([0.9, 0.2, 0.7, 0.3, 0.4, 0.8, 0.1, 0.45])


@keras.saving.register_keras_serializable("tests")
def precision(tp, fp, fn, tn):
    return tp / (tp + fp + 1e-7)


def soft_metric(name, y, p, amplification, beta):
    h = 1 / (1 + np.exp(-amplification * (p - 0.5)))
    tp, fn = sum(y * h), sum(y * (1 - h))
    fp, tn = sum((1 - y) * h), sum((1 - y) * (1 - h))
    return {
        "accuracy": (tp + tn) / len(y),
        "f1": 2 * tp / (2 * tp + fn + fp),
        "fbeta": (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp),
        "gmean": np.sqrt(tp / (tp + fn) * tn / (tn + fp)),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        precision: tp / (tp + fp),
    }[name]


@pytest.mark.parametrize(
    "metric", ["accuracy", "f1", "fbeta", "gmean", "balanced_accuracy", precision]
)
def test_any_loss_is_one_minus_the_metric(metric):
    loss = AnyLoss(metric, 10.0, 2.0)
    expected = 1 - soft_metric(metric, LABELS, SCORES, 10.0, 2.0)
    value, _ = evaluate_loss(loss, LABELS, SCORES)
    np.testing.assert_allclose(value, [expected] * 8, rtol=1e-5)
    value, _ = evaluate_loss(loss, LABELS[:, None], SCORES[:, None])
    np.testing.assert_allclose(value, [expected] * 8, rtol=1e-5)
    logits = np.log(SCORES / (1 - SCORES))
    value, _ = evaluate_loss(AnyLoss(metric, 10.0, 2.0, from_logits=True), LABELS, logits)
    np.testing.assert_allclose(value, [expected] * 8, rtol=1e-4)
    # Steep enough, it is that of the decisions.
    hard = soft_metric(metric, LABELS, (SCORES > 0.5).astype(float), 1e3, 2.0)
    np.testing.assert_allclose(
        float(AnyLoss(metric, 1e4, 2.0)(LABELS, SCORES)), 1 - hard, atol=1e-5
    )


def test_the_gradient_of_any_loss_and_what_it_does_not_see():
    h = 1 / (1 + np.exp(-10 * (SCORES - 0.5)))
    # The value of the batch is that of each of its eight samples.
    _, slope = evaluate_loss(AnyLoss("accuracy", 10.0), LABELS, SCORES)
    np.testing.assert_allclose(slope / 8, 10 * h * (1 - h) * (1 - 2 * LABELS) / 8, rtol=1e-4)
    value, _ = evaluate_loss(AnyLoss("f1"), LABELS, SCORES)
    y, p = np.concatenate([LABELS, [0] * 5]), np.concatenate([SCORES, np.linspace(0, 0.2, 5)])
    np.testing.assert_allclose(evaluate_loss(AnyLoss("f1"), y, p)[0][0], value[0], rtol=1e-5)


def test_any_loss_sees_the_least_of_a_rate():
    # The one negative is a confident mistake: its rate, 1e-12, is far below the rounding of `1 - h`.
    labels, p = np.array([1.0, 1.0, 0.0]), np.array([0.7, 0.55, 0.5 + 27.6 / 73])
    h, rest = (1 / (1 + np.exp(s * 73 * (p - 0.5))) for s in (-1, 1))
    rate, miss = h[:2].sum() / (2 + 1e-7), rest[2] / (1 + 1e-7)
    expected = 73 * rate * h[2] * miss / (2 * np.sqrt(rate * miss + 1e-14))
    slope = evaluate_loss(AnyLoss("gmean"), labels, p)[1][2] / 3
    assert slope == pytest.approx(expected, rel=1e-3)


def test_a_function_of_any_loss_survives_saving():
    config = AnyLoss(precision).get_config()
    assert AnyLoss.from_config(config).metric is precision


@pytest.mark.parametrize("metric", ["f1", "gmean", "balanced_accuracy"])
@pytest.mark.parametrize("labels", [np.zeros(8), np.ones(8)])
def test_an_absent_class_has_rate_zero(metric, labels):
    value, slope = evaluate_loss(AnyLoss(metric), labels, SCORES)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))
    if metric == "gmean" or (metric == "f1" and not labels.any()):
        np.testing.assert_allclose(value, 1, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: LogitAdjusted([10, 0]),
            "`class_counts` must be a list of positive numbers, .*10, 0",
        ),
        (lambda: Seesaw(5), "`class_counts` must be a list of positive numbers, .* class_counts=5"),
        (lambda: LDAM([]), r"`class_counts` must be .* Received: class_counts=\[\]"),
        (lambda: LDAM(COUNTS, scale=0), "`scale` must be a number above 0. Received: scale=0"),
        (lambda: Seesaw(COUNTS, q=-1), "`q` must be a number at least 0. Received: q=-1"),
        (
            lambda: class_balanced_weights(COUNTS, 1.5),
            "`beta` must be a number at least 0 and at most 1",
        ),
        (lambda: AnyLoss("auc"), "`metric` must be one of 'accuracy', 'f1', .* metric='auc'"),
        (lambda: AnyLoss(amplification=0), "`amplification` must be a number above 0. Received"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
