"""What every metric shares: exact sums at any scale, weights of 0, masks of Keras, labels that are no classes."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.metrics import BlackBoxSquare, Coverage, SelectiveAccuracy, WorstGroupAccuracy
from keras_regularize.metrics import ExpectedCalibrationError as ECE
from keras_regularize.testing._common import fused

RNG = np.random.default_rng(0)
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODES = [
    dict(binning=binning, classwise=classwise)
    for binning in ("uniform", "quantile")
    for classwise in (False, True)
]


def result(metric, *arguments, **columns):
    metric.update_state(*arguments, **columns)
    return float(metric.result())


def stream(metric, updates, *data, **columns):
    """The result after the same compiled update again and again."""
    update = fused(
        lambda state, data, columns: metric.stateless_update_state(state, *data, **columns)
    )
    state = [ops.convert_to_tensor(v.value) for v in metric.variables]
    for _ in range(updates):
        state = update(state, data, columns)
    return float(metric.stateless_result(state))


@pytest.mark.parametrize("size, updates", [(1 << 20, 8), (1000, 300), (1 << 20, 1)])
def test_calibration_stays_exact_over_millions_of_samples(size, updates):
    # Seven of ten are right, at a confidence of 0.7.
    hits = np.arange(size) % 10 < 7
    p = np.full(size, 0.7, "float32")
    scores = np.stack([1 - p, p], -1)
    exact = abs(hits.mean() - np.float64(np.float32(0.7)))
    for labels, expected in ((hits.astype("int32"), exact), (np.ones(size, "int32"), 0.3)):
        got = stream(ECE(), updates, labels, scores)
        assert got == pytest.approx(expected, abs=3e-7)
    weighted = stream(ECE(), updates, hits.astype("int32"), scores, np.full(size, 0.1, "float32"))
    assert weighted == pytest.approx(exact, abs=3e-7)


def test_shares_stay_exact_over_millions_of_samples():
    size = 1 << 20
    right, scores = (np.arange(size) % 10 < 7).astype("float32"), np.ones(size, "float32")
    weight = np.full(size, 0.1, "float32")
    weight[::3] = 0.7
    expected = np.average(right, weights=weight.astype("float64"))
    assert stream(SelectiveAccuracy(), 20, right, scores, weight) == pytest.approx(
        expected, abs=1e-6
    )
    assert stream(Coverage(), 20, right, 2 * right - 1, weight) == pytest.approx(expected, abs=1e-6)
    group = np.arange(size) % 2
    logits = np.stack([1 - right, right], -1)
    labels, columns = np.ones(size, "int32"), {"sample_weight": weight, "group": group}
    expected = min(
        np.average(right[group == g], weights=weight[group == g].astype("float64")) for g in (0, 1)
    )
    got = stream(WorstGroupAccuracy(2), 20, labels, logits, **columns)
    assert got == pytest.approx(expected, abs=1e-6)
    ids = np.arange(size) % 4
    got = stream(BlackBoxSquare(4), 20, np.where(ids == 0, 1, ids), ids)
    assert got == pytest.approx(0.25 - 2 * 0.25, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_weight_zero_may_be_anything(mode):
    y, p = RNG.integers(0, 3, 12), RNG.dirichlet(np.ones(3), 12).astype("float32")
    weight = np.ones(12, "float32")
    weight[[2, 7]] = 0
    kept = weight > 0
    expected = result(ECE(**mode), y[kept], p[kept])
    p[2], y[7] = np.nan, -1
    assert result(ECE(**mode), y, p, weight) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(result(ECE(**mode), np.maximum(y, 0), p))
    assert np.isnan(result(ECE(norm="max", **mode), np.maximum(y, 0), p))


@pytest.mark.parametrize("mode", MODES)
def test_labels_to_ignore_and_labels_that_are_no_classes(mode):
    y, p = RNG.integers(0, 3, 12), RNG.dirichlet(np.ones(3), 12).astype("float32")
    kept = np.arange(12) % 4 > 0
    expected = result(ECE(**mode), y[kept], p[kept])
    void = np.where(kept, y, 255).astype("uint8")
    for labels in (void, void[:, None], void.astype("float32")):
        assert result(ECE(ignore_class=255, **mode), labels, p) == pytest.approx(expected, abs=1e-6)
    for wrong in (void, np.where(kept, y, -1), np.where(kept, y, 0.5)):
        with pytest.raises(ValueError, match="class ids from 0 to 2. Received: y_true with"):
            ECE(**mode).update_state(wrong, p)
    with pytest.raises(ValueError, match="`ignore_class` needs labels that are integer ids"):
        ECE(ignore_class=1, **mode).update_state(np.eye(3)[y], p)
    net = keras.Sequential([keras.Input((3,)), layers.Identity()])
    net.compile(loss=lambda y, p: ops.sum(p, axis=-1), metrics=[ECE(name="ece", **mode)])
    if keras.backend.backend() == "torch":  # Runs eagerly.
        with pytest.raises(ValueError, match="class ids from 0 to 2. Received: y_true with"):
            net.evaluate(p, void, verbose=0)
    else:
        assert np.isnan(net.evaluate(p, void, verbose=0, return_dict=True)["ece"])


def test_scores_that_are_no_numbers():
    right, scores = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, np.nan, 2.0, -1.0])
    weight = np.array([1.0, 0.0, 1.0, 1.0])
    assert np.isnan(result(Coverage(), right, scores))
    assert np.isnan(result(SelectiveAccuracy(), right, scores))
    assert result(Coverage(), right, scores, weight) == pytest.approx(2 / 3)
    assert result(SelectiveAccuracy(), right, scores, weight) == 1
    with pytest.raises(ValueError, match="1 for right and 0 for wrong. Received: y_true with 3"):
        SelectiveAccuracy().update_state(np.array([1, 3, 0]), scores[:3])
    assert np.isnan(result(BlackBoxSquare(3), np.zeros(4), scores))
    got = result(BlackBoxSquare(3), np.array([0, 9, 1, 9]), scores, weight)
    assert got == pytest.approx(result(BlackBoxSquare(3), [0, 1], [1, 2]))


def padded_model(outputs, activation=None):
    net = keras.Sequential(
        [keras.Input((None, 3)), layers.Masking(), layers.Dense(outputs, activation=activation)]
    )
    net.set_weights([3 * RNG.normal(size=w.shape) for w in net.get_weights()])
    return net


X = RNG.normal(size=(6, 5, 3)).astype("float32")
LENGTHS = np.array([5, 2, 1, 4, 3, 5])
PRESENT = np.arange(5) < LENGTHS[:, None]
PADDED = np.where(PRESENT[..., None], X, 0.0).astype("float32")


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_calibration_counts_what_accuracy_counts(mode, jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("PyTorch compiles nothing here.")
    net = padded_model(4)
    y = RNG.integers(0, 4, (6, 5))
    metric = ECE(from_logits=True, name="ece", **mode)
    net.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", metric],
        jit_compile=jit_compile,
    )
    logits = net.predict(PADDED, verbose=0)
    hits = logits.argmax(-1) == y
    options = dict(batch_size=4, verbose=0)
    logs = [
        net.evaluate(PADDED, y, return_dict=True, **options),
        {k: v[0] for k, v in net.fit(PADDED, y, shuffle=False, **options).history.items()},
    ]
    # Keras' `fit` on JAX loses the mask, for its own metrics too.
    for log, masked in zip(logs, (True, keras.backend.backend() != "jax")):
        which = PRESENT if masked else np.ones_like(PRESENT)
        assert log["accuracy"] == pytest.approx(hits[which].mean(), abs=1e-6)
        expected = result(ECE(from_logits=True, **mode), y[which], logits[which])
        assert log["ece"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", [Coverage, SelectiveAccuracy])
def test_selection_counts_unmasked_positions(kind):
    net = padded_model(1)
    right = RNG.integers(0, 2, (6, 5))
    net.compile("sgd", "mse", metrics=[kind(name="kind")])
    scores = net.predict(PADDED, verbose=0)[..., 0]
    logs = net.evaluate(PADDED, right[..., None], batch_size=4, verbose=0, return_dict=True)
    expected = result(kind(), right[PRESENT], scores[PRESENT])
    assert logs["kind"] == pytest.approx(expected, abs=1e-6)


def test_masks_that_predictions_carry():
    mask = np.array([True, False, True, True])
    carry = lambda x: setattr(x, "_keras_mask", ops.convert_to_tensor(mask)) or x  # noqa: E731
    draws = np.array([0, 1, 1, 2])
    got = result(BlackBoxSquare(3), draws, carry(ops.convert_to_tensor(draws)))
    assert got == pytest.approx(result(BlackBoxSquare(3), draws[mask], draws[mask]))
    scores = RNG.random((4, 3)).astype("float32")
    group = np.array([0, 0, 1, 1])
    got = result(WorstGroupAccuracy(2), draws, carry(ops.convert_to_tensor(scores)), None, group)
    expected = result(WorstGroupAccuracy(2), draws[mask], scores[mask], None, group[mask])
    assert got == pytest.approx(expected)
    with pytest.raises(ValueError, match="Expected weights, or a mask, that fit values of shape"):
        ECE().update_state(draws, scores, np.ones(3))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_dtype_policies(dtype):
    y, p = RNG.integers(0, 3, 40).astype("uint8"), RNG.dirichlet(np.ones(3), 40)
    values = ops.cast(p, dtype if keras.backend.backend() != "jax" else "bfloat16")
    wide = ops.convert_to_numpy(ops.cast(values, "float32"))
    for mode in MODES:
        got = result(ECE(dtype=dtype, **mode), y, values)
        assert got == pytest.approx(result(ECE(**mode), y, wide), abs=1e-6)
    empty = values[:0], np.zeros(0, "int32")
    for metric in (Coverage(dtype=dtype), SelectiveAccuracy(dtype=dtype), ECE(dtype=dtype)):
        y_pred = empty[0] if isinstance(metric, ECE) else empty[0][:, 0]
        assert result(metric, empty[1], y_pred) == 0
    metric = WorstGroupAccuracy(2, dtype=dtype)
    assert result(metric, empty[1], empty[0], None, empty[1]) == 0
    assert result(metric, y, values, None, np.arange(40) % 2) == pytest.approx(
        result(WorstGroupAccuracy(2), y, wide, None, np.arange(40) % 2)
    )


if keras.backend.backend() == "tensorflow":

    def test_two_replicas_equal_one_device():
        outcome = subprocess.run(
            [sys.executable, str(pathlib.Path(__file__).parent / "replicas.py")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert "equal to one device" in outcome.stdout, outcome.stderr[-3000:]


def test_risks_read_masks_in_compiled_steps():
    net = padded_model(4)
    y = np.where(RNG.random((6, 5)) < 0.3, -1, RNG.integers(0, 4, (6, 5)))
    inner = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    found = []
    for loss in (inner, kr.losses.CVaR(inner, 1.0)):
        net.compile(keras.optimizers.SGD(0.0), loss)
        found.append(net.evaluate(PADDED, y, batch_size=6, verbose=0))
        found.append(net.fit(PADDED, y, batch_size=6, verbose=0).history["loss"][0])
    np.testing.assert_allclose(found, found[0], rtol=1e-5)


def test_a_wrapped_model_counts_the_same():
    net = padded_model(4)
    y = RNG.integers(0, 4, (6, 5))
    model = kr.models.RegularizedModel(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy", ECE(from_logits=True, name="ece")])
    logits = net.predict(PADDED, verbose=0)
    logs = model.evaluate(PADDED, y, verbose=0, return_dict=True)
    assert logs["accuracy"] == pytest.approx((logits.argmax(-1) == y)[PRESENT].mean(), abs=1e-6)
    expected = result(ECE(from_logits=True), y[PRESENT], logits[PRESENT])
    assert logs["ece"] == pytest.approx(expected, abs=1e-5)
