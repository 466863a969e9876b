"""Metrics of probabilities and of their order, against the definitions."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.metrics import AURC, BrierScore, MaximumCalibrationError
from keras_regularize.metrics import ExpectedCalibrationError as ECE

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 40)
LOGITS = RNG.normal(size=(40, 3)).astype("float32")
P = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
W = RNG.uniform(size=40).astype("float32")
KINDS = [BrierScore, AURC]


def result(metric, *arguments):
    metric.update_state(*arguments)
    return float(metric.result())


def brier(y, p, w):
    return np.average([sum((row - np.eye(3)[label]) ** 2) for label, row in zip(y, p)], weights=w)


def aurc(y, p, w):
    order = sorted(range(len(y)), key=lambda i: -p[i].max())
    area = mistakes = covered = 0.0
    for i in order:
        covered += w[i]
        mistakes += w[i] * (p[i].argmax() != y[i])
        area += w[i] * mistakes / covered
    return area / covered


@pytest.mark.parametrize("kind, oracle", [(BrierScore, brier), (AURC, aurc)])
def test_the_definition_in_every_form(kind, oracle):
    expected = pytest.approx(oracle(Y, P, np.ones(40)), rel=1e-5)
    for labels in (Y, Y[:, None].astype("uint8"), np.eye(3)[Y], Y.astype("float32")):
        assert result(kind(), labels, P) == expected
    assert result(kind(from_logits=True), Y, LOGITS) == expected
    assert result(kind(), Y.reshape(8, 5), P.reshape(8, 5, 3)) == expected
    assert result(kind(), Y, P, 2.0) == expected
    weighted = pytest.approx(oracle(Y, P, W), rel=1e-5)
    for weight in (W, W[:, None]):
        assert result(kind(), Y, P, weight) == weighted
    rows = oracle(Y, P, np.repeat(W[:8], 5))
    assert result(kind(), Y.reshape(8, 5), P.reshape(8, 5, 3), W[:8]) == pytest.approx(rows)
    metric = kind()
    for start in range(0, 40, 13):
        metric.update_state(Y[start : start + 13], P[start : start + 13])
    assert float(metric.result()) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_one_column_is_the_score_of_class_one(kind):
    y, z = Y % 2, LOGITS[:, :1]
    p = 1 / (1 + np.exp(-z))
    expected = pytest.approx(result(kind(), y, np.concatenate([1 - p, p], axis=1)), rel=1e-5)
    for given in (p, p[:, 0]):
        assert result(kind(), y, given) == expected
    assert result(kind(from_logits=True), y[:, None], z) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_count(kind):
    kept = np.arange(40) % 4 > 0
    expected = pytest.approx(result(kind(), Y[kept], P[kept]), rel=1e-5)
    void, p = np.where(kept, Y, 255).astype("uint8"), np.where(kept[:, None], P, np.nan)
    assert result(kind(ignore_class=255), void, p) == expected
    assert result(kind(), void, p, kept.astype("float32")) == expected
    assert np.isnan(result(kind(), Y, p))
    with pytest.raises(ValueError, match="class ids from 0 to 2. Received: y_true with 255"):
        kind().update_state(void, P)
    with pytest.raises(ValueError, match="Expected class labels"):
        kind().update_state(np.zeros((3, 4)), np.zeros((3, 5)))
    assert result(kind(), Y[:0], P[:0]) == 0 == result(kind(), Y, P, np.zeros(40))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind, dtype):
    half = ops.cast(LOGITS, dtype)
    wide = ops.convert_to_numpy(ops.cast(half, "float32"))
    expected = result(kind(from_logits=True), Y, wide)
    assert result(kind(from_logits=True, dtype=dtype), Y, half) == pytest.approx(expected)


def test_brier_at_the_ends():
    assert result(BrierScore(), Y, np.eye(3)[Y]) == 0
    assert result(BrierScore(), (Y + 1) % 3, np.eye(3)[Y]) == 2
    nearly = np.array([[1 - 1e-4, 1e-4]])
    assert result(BrierScore(), [0], nearly) == pytest.approx(2e-8, rel=1e-3)
    assert result(BrierScore(from_logits=True), [0], np.array([[-1e4, 1e4]])) == 2
    assert result(BrierScore(), np.array([[0.3, 0.7]]), np.array([[0.3, 0.7]])) == 0


def test_area_at_the_ends():
    y, p = np.repeat([1, 0], [750, 250]), np.linspace(0.9, 0.6, 1000)  # Wrong where not sure.
    assert result(AURC(excess=True), y, p) == pytest.approx(0, abs=1e-3)
    assert result(AURC(excess=True), y[::-1], p) > 0.2
    assert result(AURC(), np.zeros(10), np.full(10, 0.9)) == 1
    assert result(AURC(excess=True), np.zeros(10), np.full(10, 0.9)) == 0
    # Equal confidences, in the order in which they come.
    assert result(AURC(), [1, 0], np.full(2, 0.9)) == 0.25
    assert result(AURC(), [0, 1], np.full(2, 0.9)) == 0.75


def test_the_area_beyond_the_capacity_is_that_of_a_random_part():
    n, capacity = 6000, 1000
    confidence = np.linspace(0.5, 1.0, n)
    y = (np.random.default_rng(0).uniform(size=n) < confidence).astype("int32")
    metric = AURC(capacity=capacity)
    for start in range(0, n, 1000):
        metric.update_state(y[start : start + 1000], confidence[start : start + 1000])
    # The mean error rate of a part has a standard error of about 0.43 / √1000.
    assert float(metric.result()) == pytest.approx(result(AURC(), y, confidence), abs=0.05)
    kept = ops.convert_to_numpy(metric.variables[0])[:-1]
    assert len(np.unique(kept[:, 1])) == capacity


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_the_maximum_calibration_error_is_that_of_a_norm(binning):
    options = dict(num_bins=4, binning=binning)
    expected = result(ECE(norm="max", **options), Y, P)
    metric = MaximumCalibrationError(**options)
    assert result(metric, Y, P) == expected >= result(ECE(**options), Y, P)
    assert "norm" not in metric.get_config()
    again = MaximumCalibrationError.from_config(metric.get_config())
    assert result(again, Y, P) == expected


def test_in_fit_with_weights_and_masks():
    steps = np.where(np.arange(5) < RNG.integers(1, 6, 12)[:, None], 1.0, 0.0)
    x = steps[..., None] * RNG.normal(size=(12, 5, 3))
    y = RNG.integers(0, 3, (12, 5))
    net = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [kind(from_logits=True, name=kind.__name__) for kind in KINDS]
    net.compile(keras.optimizers.SGD(0.0), loss, weighted_metrics=metrics)
    logits, present = net.predict(x, verbose=0), steps > 0
    w = RNG.uniform(size=y.shape).astype("float32")
    # One batch: the loss of Keras scales the weights of each by its mask, on PyTorch in their place.
    logs = net.evaluate(x, y, sample_weight=w, batch_size=12, verbose=0, return_dict=True)
    for kind in KINDS:
        expected = result(kind(from_logits=True), y[present], logits[present], w[present])
        assert logs[kind.__name__] == pytest.approx(expected, rel=1e-4)
