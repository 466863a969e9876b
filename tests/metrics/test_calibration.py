import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.metrics import ExpectedCalibrationError as ECE
from keras_regularize.metrics import MaximumCalibrationError as MCE

NORMS = ["l1", "l2", "max"]


def binned_error(confidence, hit, weight, bins, norm):
    """The definition, bin by bin; `bins` lists the indices of the samples of each."""
    gaps, shares = [], []
    for members in bins:
        if len(members) == 0 or weight[members].sum() == 0:
            continue
        w = weight[members]
        gaps.append(abs((w * (confidence[members] - hit[members])).sum() / w.sum()))
        shares.append(w.sum() / weight.sum())
    gaps, shares = np.array(gaps), np.array(shares)
    if norm == "l1":
        return (shares * gaps).sum()
    return np.sqrt((shares * gaps**2).sum()) if norm == "l2" else gaps.max()


def oracle(y, p, num_bins=15, binning="uniform", norm="l1", classwise=False, weight=None):
    p = np.asarray(p, "float64")
    weight = np.ones(len(p)) if weight is None else np.asarray(weight, "float64")
    if classwise:
        groups = [(p[:, k], y == k) for k in range(p.shape[1])]
    else:
        groups = [(p.max(-1), p.argmax(-1) == y)]
    errors = []
    for confidence, hit in groups:
        if binning == "uniform":
            edges = [(b / num_bins, (b + 1) / num_bins) for b in range(num_bins)]
            bins = [
                np.flatnonzero(
                    (confidence > low if low else confidence >= 0) & (confidence <= high)
                )
                for low, high in edges
            ]
        else:
            used = np.flatnonzero(weight > 0)
            order = used[np.argsort(confidence[used], kind="stable")]
            bins = np.array_split(order, num_bins)
        errors.append(binned_error(confidence, hit.astype("float64"), weight, bins, norm))
    return np.mean(errors)


def random_case(n=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = (1.5 * rng.normal(size=(n, classes))).astype("float32")
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return rng.integers(0, classes, n), p, logits


def result(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return float(metric.result())


@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("binning", ["uniform", "quantile"])
@pytest.mark.parametrize("n, num_bins, norms", [(60, 15, NORMS), (3, 10, ["l1"]), (50, 1, ["l2"])])
def test_value_matches_the_definition(n, num_bins, norms, binning, classwise):
    y, p, _ = random_case(n)
    for norm in norms:
        config = dict(num_bins=num_bins, binning=binning, norm=norm, classwise=classwise)
        expected = pytest.approx(oracle(y, p, **config), rel=1e-4, abs=1e-6)
        assert result(ECE(**config), y, p) == expected, norm
        if config.pop("norm") == "max":
            assert result(MCE(**config), y, p) == expected


@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_many_batches_equal_one(binning, classwise):
    y, p, _ = random_case(46)
    metric = ECE(binning=binning, classwise=classwise)
    for start in range(0, 46, 9):  # The last batch is a single sample.
        metric.update_state(y[start : start + 9], p[start : start + 9])
    expected = oracle(y, p, binning=binning, classwise=classwise)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)
    metric.reset_state()
    assert float(metric.result()) == 0
    assert result(metric, y[:9], p[:9]) == pytest.approx(
        oracle(y[:9], p[:9], binning=binning, classwise=classwise), rel=1e-4
    )


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_labels_in_every_form(binning):
    y, p, _ = random_case(40)
    expected = result(ECE(binning=binning), y, p)
    for labels in (y[:, None], np.eye(4)[y], y.astype("float32"), 0.7 * np.eye(4)[y] + 0.075):
        assert result(ECE(binning=binning), labels, p) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("classwise", [False, True])
def test_logits(classwise):
    y, p, logits = random_case()
    expected = oracle(y, p, classwise=classwise)
    metric = ECE(classwise=classwise, from_logits=True)
    assert result(metric, y, logits) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_column_or_a_vector_is_the_score_of_class_one(shape, from_logits):
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 2, 90), rng.normal(size=90).astype("float32")
    p = 1 / (1 + np.exp(-z))
    expected = oracle(y, np.stack([1 - p, p], axis=-1))
    scores = (z if from_logits else p).reshape(shape)
    for labels in (y, y[:, None], np.eye(2)[y]):
        got = result(ECE(from_logits=from_logits), labels, scores)
        assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_sample_weights(binning, classwise):
    y, p, _ = random_case(60)
    w = np.random.default_rng(1).uniform(size=60)
    w[::3] = 0.0
    config = dict(binning=binning, classwise=classwise, num_bins=6)
    expected = oracle(y, p, weight=w, **config)
    for weight in (w, w[:, None]):
        assert result(ECE(**config), y, p, sample_weight=weight) == pytest.approx(
            expected, rel=1e-4
        )
    kept = (w > 0).astype("float32")
    left_out = oracle(y[kept > 0], p[kept > 0], **config)
    assert result(ECE(**config), y, p, sample_weight=kept) == pytest.approx(left_out, rel=1e-4)
    assert result(ECE(**config), y, p, sample_weight=np.zeros(60)) == 0
    assert result(ECE(**config), y, p, sample_weight=2.0) == pytest.approx(
        oracle(y, p, **config), rel=1e-4
    )


def test_weights_and_labels_of_sequences():
    y, p, _ = random_case(24)
    w = np.array([0.5, 1.0, 0.0, 2.0])
    got = result(ECE(), y.reshape(4, 6), p.reshape(4, 6, 4), sample_weight=w)
    assert got == pytest.approx(oracle(y, p, weight=np.repeat(w, 6)), rel=1e-4)
    by_position = np.random.default_rng(0).uniform(size=(4, 6))
    got = result(ECE(), y.reshape(4, 6, 1), p.reshape(4, 6, 4), sample_weight=by_position)
    assert got == pytest.approx(oracle(y, p, weight=by_position.ravel()), rel=1e-4)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_perfect_certain_predictions_have_no_error(binning):
    y = np.array([0, 2, 1, 1])
    for norm in NORMS:
        config = dict(binning=binning, norm=norm)
        assert result(ECE(**config), y, np.eye(3)[y]) == 0
        assert result(ECE(classwise=True, **config), y, np.eye(3)[y]) == 0
        # Certain and always wrong: the largest error there is.
        assert result(ECE(**config), (y + 1) % 3, np.eye(3)[y]) == pytest.approx(1)


def test_the_base_rate_is_calibrated():
    y = np.array([1] * 3 + [0] * 7)
    assert result(ECE(), y, np.full(10, 0.3)) == pytest.approx(0, abs=1e-6)
    assert result(ECE(classwise=True), y, np.full(10, 0.3)) == pytest.approx(0, abs=1e-6)


def test_norms_are_ordered():
    y, p, _ = random_case(80)
    l1, l2, largest = (result(ECE(norm=norm), y, p) for norm in NORMS)
    assert l1 < l2 < largest <= 1


def test_bins_are_closed_on_the_right():
    # 0.5 belongs to the first of two bins, and 0 to the first bin as well.
    p = np.array([[0.5, 0.5], [0.25, 0.75]], "float32")
    assert result(ECE(num_bins=2, norm="max"), [1, 1], p) == pytest.approx(0.5)
    assert result(ECE(num_bins=2, classwise=True), [0, 0], np.eye(2)[[0, 0]]) == 0


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_no_samples(binning):
    for classwise in (False, True):
        metric = ECE(binning=binning, classwise=classwise)
        assert float(metric.result()) == 0
        metric.reset_state()
        empty = np.zeros((0, 3), "float32")
        assert result(metric, np.zeros((0,), "int32"), empty) == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_predictions(dtype):
    y, _, logits = random_case(3000)
    half = ops.cast(logits, dtype)
    wide = ops.convert_to_numpy(ops.softmax(ops.cast(half, "float32")))
    got = result(ECE(from_logits=True), y, half)
    assert got == pytest.approx(oracle(y, wide), rel=1e-3)


def test_extreme_logits_are_finite():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], "float32")
    assert result(ECE(from_logits=True), [0, 0], logits) == pytest.approx(0.5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_values_that_cannot_be_looked_at_give_the_same(monkeypatch, binning, classwise, weighted):
    """Such as those on another device, or inside a compiled step."""
    rng = np.random.default_rng(3)
    batches = []
    for n in (5, 70):
        p = rng.dirichlet(np.ones(4), n).astype("float32")
        weight = rng.uniform(size=n).astype("float32") if weighted else None
        data = rng.integers(0, 4, n), ops.convert_to_tensor(p), weight
        batches.append(data)
    metrics = [ECE(binning=binning, classwise=classwise) for _ in range(2)]
    for metric in metrics:
        for data in batches:
            metric.update_state(*data)
        monkeypatch.setattr(backend, "peek", lambda x: None)
    first, second = (float(metric.result()) for metric in metrics)
    assert first == pytest.approx(second, rel=1e-5) and first > 0


@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_shows_in_silence(classwise, value):
    metric = ECE(classwise=classwise)
    for _ in range(2):
        metric.update_state([0, 1], np.array([[0.5, 0.5], [0.2, value]], "float32"))
    assert not np.isfinite(float(metric.result()))


@pytest.mark.everywhere
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="about torch.compile")
def test_an_update_is_one_graph():
    """What looks at values steps aside while PyTorch traces."""
    import torch

    metric = ECE()
    update = torch.compile(metric.update_state, backend="eager", fullgraph=True)
    p = torch.softmax(torch.randn(8, 3), -1)
    update(torch.arange(8) % 3, p)
    compiled = float(metric.result())
    metric.reset_state()
    metric.update_state(torch.arange(8) % 3, p)
    assert compiled == pytest.approx(float(metric.result()), rel=1e-5)


def test_quantile_bins_are_exact_up_to_the_capacity():
    y, p, _ = random_case(64)
    metric = ECE(binning="quantile", capacity=64)
    for start in range(0, 64, 10):
        metric.update_state(y[start : start + 10], p[start : start + 10])
    expected = oracle(y, p, binning="quantile")
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


def test_beyond_the_capacity_the_kept_samples_are_uniform():
    # The confidence tells when a sample came; all are right, so the error is 1 - mean confidence.
    n, capacity = 20_000, 500
    p = np.linspace(0.5, 1.0, n).astype("float32")
    metric = ECE(num_bins=1, binning="quantile", capacity=capacity)
    for start in range(0, n, 1000):
        metric.update_state(np.ones(1000, "int32"), p[start : start + 1000])
    # Four standard errors of a mean of 500 uniform numbers of width 1/2.
    assert float(metric.result()) == pytest.approx(0.25, abs=4 * 0.5 / np.sqrt(12 * capacity))
    kept = ops.convert_to_numpy(metric.variables[0])[:-1]
    assert np.all(kept[:, 0] == 1)
    assert len(np.unique(kept[:, 2])) == capacity
    # Early, middle and late samples alike: a third each.
    counts = np.histogram(kept[:, 2], bins=3, range=(0.5, 1.0))[0]
    assert np.all(abs(counts - capacity / 3) < 4 * np.sqrt(capacity * 2 / 9))


@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_in_fit_and_evaluate(binning, classwise):
    y, _, x = random_case(70)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    metric = ECE(binning=binning, classwise=classwise, from_logits=True, name="ece")
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", metric],
    )
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    logits = model.predict(x, verbose=0)
    p = ops.convert_to_numpy(ops.softmax(logits))
    expected = oracle(y, p, binning=binning, classwise=classwise)
    np.testing.assert_allclose(history["ece"], expected, rtol=1e-4)
    logs = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    assert logs["ece"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classwise", [False, True])
def test_evaluates_a_loaded_model(classwise, tmp_path):
    y, _, x = random_case(30)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="softmax")])
    metric = ECE(num_bins=7, classwise=classwise, name="ece")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[metric])
    model.fit(x, y, verbose=0)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)["ece"]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    got = loaded.evaluate(x, y, verbose=0, return_dict=True)["ece"]
    assert got == pytest.approx(expected, rel=1e-5)


def test_binary_model_in_fit():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(
        keras.optimizers.SGD(0.0), "binary_crossentropy", weighted_metrics=[ECE(name="ece")]
    )
    w = rng.uniform(size=40)
    got = model.fit(x, y, sample_weight=w, batch_size=16, verbose=0).history["ece"][0]
    p = model.predict(x, verbose=0)
    expected = oracle(y, np.concatenate([1 - p, p], axis=-1), weight=w)
    assert got == pytest.approx(expected, rel=1e-4)


def test_config_holds_every_argument():
    metric = ECE(np.int64(7), "quantile", "l2", True, True, 99, "mine", "float32", -1)
    config = metric.get_config()
    assert config == {
        "num_bins": 7,
        "binning": "quantile",
        "norm": "l2",
        "classwise": True,
        "from_logits": True,
        "capacity": 99,
        "name": "mine",
        "dtype": "float32",
        "ignore_class": -1,
    }
    assert type(config["num_bins"]) is int
    assert ECE.from_config(config).get_config() == config


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(num_bins=0), "`num_bins` must be an integer of at least 1. Received: num_bins=0"),
        (dict(num_bins=2.5), "`num_bins` must be an integer of at least 1. Received: num_bins=2.5"),
        (dict(capacity=0), "`capacity` must be an integer of at least 1"),
        (
            dict(binning="log"),
            "`binning` must be one of 'uniform', 'quantile'. Received: binning='log'",
        ),
        (dict(norm="l3"), "`norm` must be one of 'l1', 'l2', 'max'. Received: norm='l3'"),
    ],
)
def test_bad_arguments_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ECE(**config)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="Expected class labels"):
        ECE().update_state(np.zeros((3, 4)), np.zeros((3, 5)))
    metric = ECE(classwise=True)
    metric.update_state([0, 1], np.eye(3)[:2])
    with pytest.raises(ValueError, match="updated with 3 classes before. Received: y_pred with 4"):
        metric.update_state([0, 1], np.eye(4)[:2])
