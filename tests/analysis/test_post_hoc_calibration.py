"""Maps that calibrate a trained classifier, and what they are judged by."""

import builtins
import os
import warnings

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_digits
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

import keras_regularize as kr
from keras_regularize.analysis import (
    IsotonicCalibration,
    TemperatureScaling,
    VectorScaling,
    brier_decomposition,
    fit_temperature,
    out_of_distribution_scores,
    reliability_diagram,
)
from tests.helpers import softmax

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 400)
LOGITS = 4 * (np.eye(3)[Y] + RNG.normal(size=(400, 3))) + [1.0, 0.0, -1.0]
P = softmax(LOGITS)
ONE = LOGITS[:, 1] - LOGITS[:, 0]
ONE_Y = (Y == 1).astype("int32")
SCALINGS = [TemperatureScaling, VectorScaling]


def nll(y, p):
    return -np.mean(np.log(p[np.arange(len(y)), y]))


def classifier(outputs=3, activation=None, loss=None):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(outputs, activation=activation)]
    )
    if outputs == 3:
        model.layers[0].set_weights([np.eye(3), np.zeros(3)])
    model.compile("sgd", loss)
    return model


SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# Temperature


def test_the_temperature_is_the_best_of_all():
    grid = np.exp(np.linspace(-3, 3, 2001))
    best = grid[np.argmin([nll(Y, softmax(LOGITS / t)) for t in grid])]
    found = fit_temperature(Y, LOGITS)
    assert found == pytest.approx(best, rel=4e-3)
    for labels in (Y[:, None].astype("uint8"), np.eye(3)[Y], Y.reshape(8, 50)):
        logits = LOGITS.reshape(8, 50, 3) if labels.shape == (8, 50) else LOGITS
        assert fit_temperature(labels, logits) == pytest.approx(found, rel=1e-9)
    assert fit_temperature(Y, 3 * LOGITS) == pytest.approx(3 * found, rel=1e-6)
    assert fit_temperature(Y, LOGITS + RNG.normal(size=(400, 1)) * 100) == pytest.approx(found)
    assert fit_temperature(Y, LOGITS / found) == pytest.approx(1, rel=1e-6)


def test_the_temperature_of_one_column():
    both = np.stack([0 * ONE, ONE], axis=1)
    expected = pytest.approx(fit_temperature(ONE_Y, both))
    for logits in (ONE, ONE[:, None].astype("float32")):
        assert fit_temperature(ONE_Y, logits) == expected
    assert fit_temperature(np.eye(2)[ONE_Y], ONE) == expected


def test_the_temperature_at_the_ends():
    with pytest.warns(UserWarning, match="0.01: the label has the largest logit in all samples"):
        assert fit_temperature(Y, np.eye(3)[Y] * 1e4) == pytest.approx(0.01)
    with pytest.warns(UserWarning, match="100.*: classes of larger logits are not likelier"):
        assert fit_temperature((Y + 1) % 3, 5 * np.eye(3)[Y]) == pytest.approx(100)
    assert fit_temperature(Y, np.ones((400, 3))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(fit_temperature([1], np.array([[1e4, -1e4]])))


@pytest.mark.parametrize(
    "y, logits, message",
    [
        (Y[:0], LOGITS[:0], "at least one sample"),
        (Y[:3], LOGITS, "Expected class ids"),
        (Y - 1, LOGITS, "class ids from 0 to 2. Received: y_true with -1"),
        (Y + 0.5, LOGITS, "class ids from 0 to 2"),
        (np.eye(3)[Y] * 2, LOGITS, "sum to 1"),
        (Y, LOGITS + np.nan, "Expected finite scores"),
        (Y, P, "Expected logits. Received: numbers of at least 0 that sum to 1"),
    ],
)
def test_what_is_refused(y, logits, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(y, logits)


# Models


@pytest.mark.parametrize("kind", SCALINGS)
def test_the_calibrated_model_predicts_what_the_formula_says(kind):
    scaling = kind(classifier(loss=SPARSE)).fit(LOGITS.astype("float32"), Y)
    scale = getattr(scaling, "scale_", None)
    scale = 1 / scaling.temperature_ if scale is None else scale
    expected = softmax(scale * LOGITS + getattr(scaling, "offset_", 0.0))
    got = scaling.calibrated_model.predict(LOGITS, verbose=0)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(scaling.predict(LOGITS, batch_size=7), expected, atol=1e-5)
    plain = kind().fit(LOGITS, Y)
    np.testing.assert_allclose(plain.predict(LOGITS), expected, atol=1e-5)
    # A model that gives out probabilities, of which these are logits.
    probable = classifier(activation="softmax", loss="sparse_categorical_crossentropy")
    expected = kind().fit(np.log(P), Y).predict(np.log(P))
    np.testing.assert_allclose(kind(probable).fit(LOGITS, Y).predict(LOGITS), expected, atol=1e-4)


@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_the_calibrated_model_of_one_column(kind, activation):
    model = classifier(1, activation, keras.losses.BinaryCrossentropy(from_logits=not activation))
    model.set_weights([np.array([[-0.3], [0.3], [0.0]]), np.zeros(1)])
    logits = 0.3 * ONE[:, None]  # Of which probabilities in float32 are not 1.
    scaling = kind(model).fit(LOGITS, ONE_Y)
    got = scaling.calibrated_model.predict(LOGITS, verbose=0)
    assert got.shape == (400, 1)
    plain = kind().fit(logits, ONE_Y[:, None])
    np.testing.assert_allclose(got, plain.predict(logits), atol=1e-4)
    before, after = (
        nll(ONE_Y, np.concatenate([1 - p, p], axis=1))
        for p in (1 / (1 + np.exp(-logits)), got.astype("float64"))
    )
    assert after < before


@pytest.mark.parametrize("kind", SCALINGS)
def test_the_calibrated_model_is_saved_and_trained_on(kind, tmp_path):
    scaling = kind(classifier(loss=SPARSE)).fit(LOGITS, Y)
    expected = scaling.predict(LOGITS)
    scaling.calibrated_model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(LOGITS, verbose=0), expected, atol=1e-6)
    loaded.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    logs = loaded.evaluate(LOGITS, Y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(nll(Y, expected), rel=1e-4)
    assert logs["accuracy"] == pytest.approx(np.mean(expected.argmax(-1) == Y))


def test_models_of_every_kind(tmp_path):
    expected = pytest.approx(fit_temperature(Y, LOGITS), rel=1e-4)
    inner = classifier()
    inputs = {"a": keras.Input((1,), name="a"), "b": keras.Input((2,), name="b")}
    named = keras.Model(
        inputs, inner(keras.layers.Concatenate()([inputs["a"], inputs["b"]])), name="named"
    )
    parts = {"a": LOGITS[:, :1], "b": LOGITS[:, 1:]}

    class Subclassed(keras.Model):
        def call(self, x):
            return inner(x)

    wrapper = kr.models.SAM(classifier(loss=SPARSE))
    wrapper.compile("sgd", SPARSE)
    for model, x in ((named, parts), (Subclassed(), LOGITS.astype("float32")), (wrapper, LOGITS)):
        scaling = TemperatureScaling(model, from_logits=True).fit(x, Y, batch_size=100)
        assert scaling.temperature_ == expected
        p = scaling.predict(x)
        np.testing.assert_allclose(p, softmax(LOGITS / scaling.temperature_), atol=1e-5)
    scaling.calibrated_model.save(tmp_path / "model.keras")  # Without the wrapper.
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(LOGITS, verbose=0), p, atol=1e-6)
    # Positions, of which a later input has more.
    steps = keras.Sequential([keras.Input((None, 3)), keras.layers.Identity()])
    scaling = VectorScaling(steps, from_logits=True).fit(LOGITS.reshape(80, 5, 3), Y.reshape(80, 5))
    np.testing.assert_allclose(scaling.scale_, VectorScaling().fit(LOGITS, Y).scale_, rtol=1e-4)
    assert scaling.predict(LOGITS.reshape(40, 10, 3)).shape == (40, 10, 3)


@pytest.mark.parametrize("kind", [*SCALINGS, IsotonicCalibration])
def test_weights_count_as_samples_do(kind):
    times = RNG.integers(0, 3, 400)
    repeated = np.repeat(np.arange(400), times)
    expected = kind().fit(LOGITS[repeated], Y[repeated]).predict(LOGITS)
    void = np.where(times > 0, Y, -1)
    for weight in (times, 0.5 * times):
        got = kind().fit(LOGITS, void, sample_weight=weight).predict(LOGITS)
        np.testing.assert_allclose(got, expected, atol=1e-5)
    logits, labels = LOGITS.reshape(80, 5, 3), void.reshape(80, 5)
    for y in (labels, labels[..., None]):
        got = kind().fit(logits, y, sample_weight=times.reshape(80, 5)).predict(logits)
        np.testing.assert_allclose(got.reshape(400, 3), expected, atol=1e-5)
    rows = np.arange(80) % 2
    part = kind().fit(logits[rows > 0], Y.reshape(80, 5)[rows > 0]).predict(logits)
    got = kind().fit(logits, Y.reshape(80, 5), sample_weight=rows).predict(logits)
    np.testing.assert_allclose(got, part, atol=1e-5)
    with pytest.raises(ValueError, match="Expected weights of at least 0"):
        kind().fit(LOGITS, Y, sample_weight=times[:5])
    with pytest.raises(ValueError, match="at least one sample"):
        kind().fit(LOGITS, Y, sample_weight=0 * times)


@pytest.mark.parametrize("kind", SCALINGS)
def test_half_precision_ends_at_the_logits(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        scaling = kind(classifier(loss=SPARSE)).fit(LOGITS, Y)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = ops.convert_to_numpy(ops.cast(ops.cast(LOGITS, "bfloat16"), "float32"))
    expected = kind().fit(logits, Y).predict(logits)
    np.testing.assert_allclose(scaling.predict(LOGITS), expected, atol=1e-5)


def test_models_that_are_refused():
    several = classifier(3, "sigmoid", "binary_crossentropy")
    with pytest.raises(ValueError, match="a model of several labels"):
        TemperatureScaling(several).fit(LOGITS, Y)
    inputs = keras.Input((3,))
    two = keras.Model(inputs, [keras.layers.Dense(3)(inputs), keras.layers.Dense(3)(inputs)])
    with pytest.raises(ValueError, match="a model with 2 outputs"):
        TemperatureScaling(two, from_logits=True).fit(LOGITS, Y)
    unknown = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="Expected to know whether the model gives out logits"):
        VectorScaling(unknown).fit(LOGITS, Y)
    with pytest.raises(ValueError, match="`model` must be a Keras model or None"):
        IsotonicCalibration(LOGITS)
    for kind in (*SCALINGS, IsotonicCalibration):
        with pytest.raises(ValueError, match=f"`{kind.__name__}` has to be fitted first"):
            kind().predict(LOGITS)


if keras.backend.backend() == "tensorflow":

    @pytest.mark.parametrize("kind", SCALINGS)
    @pytest.mark.everywhere
    def test_the_calibrated_model_is_exported(kind, tmp_path):
        import tensorflow as tf

        scaling = kind(classifier(loss=SPARSE)).fit(LOGITS, Y)
        scaling.calibrated_model.export(os.fspath(tmp_path / "model"), verbose=False)
        loaded = tf.saved_model.load(os.fspath(tmp_path / "model"))
        served = loaded.serve(LOGITS.astype("float32"))
        np.testing.assert_allclose(served, scaling.predict(LOGITS), atol=1e-5)


# Vector scaling and isotonic maps


def test_vector_scaling_is_at_the_minimum():
    scaling = VectorScaling().fit(LOGITS, Y)
    w, b = scaling.scale_, scaling.offset_
    error = softmax(w * LOGITS + b) - np.eye(3)[Y]
    np.testing.assert_allclose((error * LOGITS).mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-6)
    assert b.sum() == pytest.approx(0, abs=1e-9)
    t = fit_temperature(Y, LOGITS)
    assert nll(Y, softmax(w * LOGITS + b)) < nll(Y, softmax(LOGITS / t)) - 1e-3


def test_vector_scaling_of_one_column_is_logistic_regression():
    scaling = VectorScaling().fit(ONE, ONE_Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(ONE[:, None], ONE_Y)
    assert scaling.scale_[0] == pytest.approx(peer.coef_[0, 0], rel=1e-4)
    assert scaling.offset_[0] == pytest.approx(peer.intercept_[0], rel=1e-3, abs=1e-4)


def test_vector_scaling_where_all_is_right():
    scaling = VectorScaling().fit(np.eye(3)[Y] * 5, Y)
    assert np.isfinite(scaling.scale_).all() and np.isfinite(scaling.offset_).all()
    assert (scaling.predict(np.eye(3)[Y] * 5).argmax(-1) == Y).all()


def test_isotonic_maps_are_those_of_every_class():
    isotonic = IsotonicCalibration(from_logits=False).fit(P, Y)
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        .fit(P[:200, k], Y[:200] == k)
        .predict(P[:, k])
        for k in range(3)
    ]
    raw = np.stack(columns, axis=1)
    expected = raw / raw.sum(axis=1, keepdims=True)
    isotonic = IsotonicCalibration(from_logits=False).fit(P[:200], Y[:200])
    np.testing.assert_allclose(isotonic.predict(P), expected, atol=1e-6)
    modelled = IsotonicCalibration(classifier(loss=SPARSE)).fit(LOGITS[:200], Y[:200])
    np.testing.assert_allclose(modelled.predict(LOGITS[:200]), expected[:200], atol=1e-3)
    for zero in isotonic.maps_:
        zero.predict = lambda p: 0.0 * p
    np.testing.assert_allclose(isotonic.predict(P[:2]), 1 / 3)
    single = IsotonicCalibration().fit(ONE, ONE_Y)
    assert single.predict(ONE).shape == (400, 1)
    order = np.argsort(ONE)
    assert (np.diff(single.predict(ONE)[order, 0]) >= 0).all()
    with pytest.raises(ValueError, match="Expected scores of 1 columns"):
        single.predict(LOGITS)


def test_isotonic_maps_need_scikit_learn(monkeypatch):
    genuine = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return genuine(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="`IsotonicCalibration` needs scikit-learn"):
        IsotonicCalibration().fit(LOGITS, Y)


# Measures


def test_the_diagram_is_that_of_a_loop():
    diagram = reliability_diagram(Y, P, num_bins=8)
    confidence, hit = P.max(-1), P.argmax(-1) == Y
    for b in range(8):
        inside = (confidence > b / 8) & (confidence <= (b + 1) / 8)
        assert diagram.count[b] == inside.sum()
        if inside.any():
            assert diagram.confidence[b] == pytest.approx(confidence[inside].mean())
            assert diagram.accuracy[b] == pytest.approx(hit[inside].mean())
        else:
            assert np.isnan(diagram.confidence[b]) and np.isnan(diagram.accuracy[b])
    np.testing.assert_allclose(diagram.edges, np.arange(9) / 8)
    for metric, value in (
        (kr.metrics.ExpectedCalibrationError(8), diagram.expected_calibration_error),
        (kr.metrics.MaximumCalibrationError(8), diagram.maximum_calibration_error),
    ):
        metric.update_state(Y, P)
        assert value == pytest.approx(float(metric.result()), rel=1e-5)
    again = reliability_diagram(np.eye(3)[Y], LOGITS, num_bins=8, from_logits=True)
    np.testing.assert_array_equal(again.count, diagram.count)
    p = 1 / (1 + np.exp(-ONE))
    both = reliability_diagram(ONE_Y, np.stack([1 - p, p], axis=1))
    np.testing.assert_array_equal(reliability_diagram(ONE_Y, p[:, None]).count, both.count)
    with pytest.raises(ValueError, match="Expected probabilities of classes that sum to 1"):
        reliability_diagram(Y, LOGITS)
    with pytest.raises(AttributeError):
        diagram.count = 0


def test_the_diagram_is_drawn():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    diagram = reliability_diagram(Y, P, num_bins=8)
    _, ax = plt.subplots()
    assert diagram.plot(ax) is ax
    used = diagram.count > 0
    heights = [bar.get_height() for bar in ax.containers[0]]
    np.testing.assert_allclose(heights, diagram.accuracy[used])
    assert f"{diagram.expected_calibration_error:.3f}" in ax.get_title()
    assert diagram.plot() is ax
    plt.close("all")


def test_the_parts_of_a_brier_score():
    p = np.round(RNG.uniform(size=200) * 10) / 10  # One forecast per bin, but for 0 and 0.1.
    p = np.maximum(p, 0.1)
    y = (RNG.uniform(size=200) < p).astype(int)
    parts = brier_decomposition(y, p)
    total = parts.reliability - parts.resolution + parts.uncertainty
    assert total == pytest.approx(brier_score_loss(y, p))
    metric = kr.metrics.BrierScore()
    metric.update_state(y, p)
    assert float(metric.result()) == pytest.approx(2 * total, rel=1e-5)
    for labels, given in ((y[:, None], p[:, None]), (y, np.stack([1 - p, p], 1)), (y > 0, p)):
        assert brier_decomposition(labels, given) == pytest.approx(parts)
    base = brier_decomposition(y, np.full(200, y.mean()))
    assert base == pytest.approx((0, 0, y.mean() * (1 - y.mean())))
    with pytest.raises(ValueError, match="Expected probabilities of two classes"):
        brier_decomposition(Y, P)
    with pytest.raises(ValueError, match="Expected probabilities of classes"):
        brier_decomposition(y, p + 0.5)


def test_scores_of_other_data_are_those_of_scikit_learn():
    for decimals in (1, 8):
        known, other = np.round(1 + RNG.normal(size=70), decimals), RNG.normal(size=50)
        other = np.round(other, decimals)
        labels, scores = np.repeat([1, 0], [70, 50]), np.concatenate([known, other])
        got = out_of_distribution_scores(known, other)
        threshold = np.sort(known)[::-1][67 - 1]  # 66.5 of 70.
        expected = (
            roc_auc_score(labels, scores),
            average_precision_score(labels, scores),
            average_precision_score(1 - labels, -scores),
            np.mean(other >= threshold),
        )
        assert got == pytest.approx(expected)
    assert out_of_distribution_scores([2, 3], [0, 1]) == (1, 1, 1, 0)
    assert out_of_distribution_scores(known, known).auroc == pytest.approx(0.5)
    assert out_of_distribution_scores(known[:, None], other) == got
    for bad in ([], [[1, 2]], [np.nan]):
        with pytest.raises(ValueError, match="`out_scores` must be a vector"):
            out_of_distribution_scores(known, bad)


# The effect


@pytest.mark.parametrize("name", ["CoTeaching", "FactoredSphericalClassifier"])
def test_a_wrapper_that_predicts_by_itself_is_saved_with_the_map(name, tmp_path):
    """The calibrated model holds it whole: of its predictions the model inside knows nothing."""
    nets = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)]
    if name == "CoTeaching":
        model = kr.models.CoTeaching(*nets, forget_rate=0.2)
    else:
        model = kr.models.FactoredSphericalClassifier(nets[0], num_classes=3)
        model.set_output_kernel(np.eye(3, dtype="float32"))
    for net in nets:
        net.set_weights([np.eye(4, 3), np.zeros(3)])
    x, noise = np.random.default_rng(0).normal(size=(2, 40, 4)).astype("float32")
    y = (x + noise)[:, :3].argmax(axis=1)
    scaling = TemperatureScaling(model, from_logits=True).fit(x, y)
    expected = softmax(model.predict(x, verbose=0) / scaling.temperature_)
    np.testing.assert_allclose(scaling.predict(x), expected, rtol=1e-4, atol=1e-6)
    scaling.calibrated_model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.once
def test_temperature_scaling_helps_on_digits():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32") + np.random.default_rng(0).normal(size=x.shape) * 0.4
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10)]
    )
    model.compile(keras.optimizers.Adam(0.01), SPARSE)
    model.fit(x[:500], y[:500], batch_size=100, epochs=40, verbose=0)
    scaling = TemperatureScaling(model).fit(x[500:900], y[500:900])
    before = softmax(model.predict(x[900:], verbose=0).astype("float64"))
    after = scaling.predict(x[900:]).astype("float64")
    np.testing.assert_array_equal(after.argmax(-1), before.argmax(-1))
    errors = [reliability_diagram(y[900:], p).expected_calibration_error for p in (before, after)]
    likelihoods = [nll(y[900:], p) for p in (before, after)]
    assert scaling.temperature_ > 1.5
    assert errors[1] < 0.5 * errors[0]
    assert likelihoods[1] < 0.7 * likelihoods[0]
