from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_regularize import autodiff
from keras_regularize.losses import PolyLoss


def oracle(rows, p, epsilon, gamma=0.0, label_smoothing=0.0):
    epsilon = [epsilon] if np.isscalar(epsilon) else epsilon
    values = []
    for t, q in zip(np.asarray(rows, "float64"), np.asarray(p, "float64")):
        t = t * (1 - label_smoothing) + label_smoothing / len(t)
        pt = sum(a * b for a, b in zip(t, q))
        cross_entropy = -sum(a * np.log(b) for a, b in zip(t, q) if a)
        value = (1 - pt) ** gamma * cross_entropy
        for j, e in enumerate(epsilon, start=1):
            value += e * (1 - pt) ** (j + gamma)
        values.append(value)
    return np.array(values)


def softmax(z):
    z = np.asarray(z, "float64")
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def random_case(batch, classes, seed=0):
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(batch, classes))).astype("float32")
    return rng.integers(0, classes, batch), logits


def value_at(rows, z, **config):
    return oracle(rows, softmax(z), **config)


def loss_of(**config):
    return PolyLoss(from_logits=True, reduction="none", **config)


def values(loss, y_true, y_pred, **kwargs):
    return ops.convert_to_numpy(loss(y_true, y_pred, **kwargs))


def gradient(loss, y_true, y_pred):
    y_pred = ops.convert_to_tensor(y_pred)
    return ops.convert_to_numpy(autodiff.grad(lambda z: ops.sum(loss(y_true, z)))(y_pred))


def numeric_gradient(f, z, step=1e-5):
    z = np.asarray(z, "float64")
    g = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[index] += step
        down[index] -= step
        g[index] = (f(up).sum() - f(down).sum()) / (2 * step)
    return g


CONFIGS = [
    dict(epsilon=2.0),
    dict(epsilon=-1.0, gamma=2.0),
    dict(epsilon=[1.0, -0.5, 0.25]),
    dict(epsilon=[0.5, 2.0], gamma=1.5, label_smoothing=0.2),
    dict(epsilon=0.0, gamma=0.5),
    dict(epsilon=1.0, label_smoothing=1.0),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("batch, classes", [(1, 2), (5, 4), (16, 11)])
def test_value_and_gradient_match_the_formula(config, batch, classes):
    ids, logits = random_case(batch, classes)
    rows = np.eye(classes, dtype="float32")[ids]
    soft = np.random.default_rng(1).dirichlet(np.ones(classes), batch).astype("float32")
    loss = loss_of(**config)
    for labels, target in ((ids, rows), (rows, rows), (soft, soft)):
        np.testing.assert_allclose(
            values(loss, labels, logits),
            oracle(target, softmax(logits), **config),
            rtol=2e-5,
            atol=1e-6,
        )
        exact = numeric_gradient(partial(value_at, target, **config), logits)
        np.testing.assert_allclose(gradient(loss, labels, logits), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_probabilities_give_the_value_of_logits(config):
    ids, logits = random_case(6, 5)
    p = softmax(logits).astype("float32")
    loss = PolyLoss(reduction="none", **config)
    expected = values(loss_of(**config), ids, logits)
    np.testing.assert_allclose(values(loss, ids, p), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values(loss, ids, 3 * p), expected, rtol=1e-4, atol=1e-6)


def test_epsilon_zero_is_cross_entropy():
    ids, logits = random_case(9, 6)
    rows = np.eye(6, dtype="float32")[ids]
    reference = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction="none"
    )
    np.testing.assert_allclose(
        values(loss_of(epsilon=0.0, label_smoothing=0.1), ids, logits),
        values(reference, rows, logits),
        rtol=1e-5,
    )


def test_gradient_of_poly_1_at_the_label():
    ids, logits = random_case(8, 5)
    pt = softmax(logits)[np.arange(8), ids]
    g = gradient(loss_of(epsilon=2.0), ids, logits)[np.arange(8), ids]
    np.testing.assert_allclose(g, -(1 - pt) * (1 + 2.0 * pt), rtol=1e-4)


@given(st.integers(1, 6), st.floats(0.55, 0.98))
@settings(max_examples=15)
def test_the_first_terms_of_the_series_can_be_cancelled(terms, pt):
    epsilon = [-1.0 / j for j in range(1, terms + 1)]
    tail = sum((1 - pt) ** j / j for j in range(terms + 1, 400))
    got = values(PolyLoss(epsilon, reduction="none"), [1], np.array([[1 - pt, pt]]))
    np.testing.assert_allclose(got, [tail], rtol=1e-3, atol=1e-6)


def test_the_slope_in_epsilon_is_the_power_of_the_error():
    ids, logits = random_case(4, 3)
    error = 1 - softmax(logits)[np.arange(4), ids]
    change = values(loss_of(epsilon=[0, 1, 0]), ids, logits) - values(
        loss_of(epsilon=0), ids, logits
    )
    np.testing.assert_allclose(change, error**2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_saturated_logits_keep_value_and_gradient(gamma, size, kind):
    logits = np.array([[size, -size, 0.0], [size, size - 1.0, -size], [0, 0, 0]], "float32")
    ids = np.array([0, 0, 1])
    loss = loss_of(epsilon=1.5, gamma=gamma)
    for labels in (ids, 1 - ids):
        y = labels if kind == "ids" else np.eye(3, dtype="float32")[labels]
        log_p = logits - logits.max(-1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
        log_pt = log_p[np.arange(3), labels].astype("float64")
        error = -np.expm1(log_pt)
        np.testing.assert_allclose(
            values(loss, y, logits), error**gamma * (1.5 * error - log_pt), rtol=1e-4, atol=1e-5
        )
        g = gradient(loss, y, logits)
        assert np.all(np.isfinite(g))
        # Confidently wrong keeps the gradient; confidently right has none.
        wrong = error > 0.99
        assert np.all(g[wrong, labels[wrong]] < -0.4)
        np.testing.assert_allclose(g[error == 0], 0.0, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_probabilities_of_exactly_zero_and_one_are_finite(gamma):
    p = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], "float32")
    loss = PolyLoss(gamma=gamma, reduction="none")
    v = values(loss, [0, 0, 0], p)
    assert v[0] == pytest.approx(0.0, abs=1e-6)
    assert v[1] == pytest.approx(-np.log(1e-7) + 1.0, rel=1e-4)
    assert np.all(np.isfinite(v))
    # Beyond the clip nothing depends on the predictions, on any backend.
    np.testing.assert_array_equal(gradient(loss, [0, 0, 0], p), 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits(dtype):
    ids, logits = random_case(4, 200)
    half = ops.cast(30 * logits, dtype)
    exact = ops.convert_to_numpy(ops.cast(half, "float32"))
    expected = values(loss_of(gamma=0.5), ids, exact)
    np.testing.assert_allclose(values(loss_of(gamma=0.5), ids, half), expected, rtol=1e-5)
    slope = gradient(loss_of(gamma=0.5, dtype=dtype), ids, half)
    assert np.all(np.isfinite(slope.astype("float32")))


def test_one_column_is_the_score_of_class_one():
    ids = np.array([0, 1, 1])
    score = np.array([[0.3], [-2.0], [1.5]], "float32")
    both = np.concatenate([np.zeros_like(score), score], axis=-1)
    p = 1 / (1 + np.exp(-score))
    expected = values(loss_of(gamma=1.0), ids, both)
    np.testing.assert_allclose(values(loss_of(gamma=1.0), ids, score), expected, rtol=1e-5)
    np.testing.assert_allclose(
        values(PolyLoss(gamma=1.0, reduction="none"), ids[:, None], p), expected, rtol=1e-4
    )


def test_positions_and_weights():
    ids, logits = random_case(12, 5)
    v = values(loss_of(), ids, logits).reshape(3, 4)
    by_position = values(loss_of(), ids.reshape(3, 4), logits.reshape(3, 4, 5))
    np.testing.assert_allclose(by_position, v, rtol=1e-6)
    w = np.array([0.5, 2.0, 0.0])
    got = values(
        PolyLoss(from_logits=True), ids.reshape(3, 4), logits.reshape(3, 4, 5), sample_weight=w
    )
    np.testing.assert_allclose(got, (w[:, None] * v).mean(), rtol=1e-5)


def test_second_derivative_is_that_of_the_formula():
    z = np.array([[0.3, -0.4, 0.9]], "float32")
    for y in ([2], [[0.2, 0.3, 0.5]]):
        loss = loss_of(epsilon=1.0)

        def slope(z, y=y, loss=loss):
            return ops.sum(ops.square(autodiff.grad(lambda z: ops.sum(loss(y, z)))(z)))

        got = ops.convert_to_numpy(autodiff.grad(slope)(ops.convert_to_tensor(z)))
        rows = np.eye(3)[y] if y == [2] else np.array(y)

        def exact(z, rows=rows):
            g = numeric_gradient(lambda z: oracle(rows, softmax(z), 1.0), z, 1e-4)
            return np.square(g)

        np.testing.assert_allclose(got, numeric_gradient(exact, z, 1e-3), rtol=1e-3, atol=1e-4)


def test_fits_saves_and_loads(tmp_path):
    ids, x = random_case(20, 4)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile("sgd", loss=PolyLoss([1.0, 0.5], gamma=0.5, from_logits=True))
    before = model.evaluate(x, ids, verbose=0)
    model.fit(x, ids, epochs=3, batch_size=8, verbose=0)
    after = model.evaluate(x, ids, verbose=0)
    assert after < before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.epsilon == [1.0, 0.5]
    np.testing.assert_allclose(loaded.evaluate(x, ids, verbose=0), after, rtol=1e-5)


def test_config_holds_every_argument():
    loss = PolyLoss(np.array([1, 2]), np.float32(2), 0.5, True, "sum", "mine", "float32")
    config = loss.get_config()
    assert config == {
        "epsilon": [1.0, 2.0],
        "gamma": 2.0,
        "label_smoothing": 0.5,
        "from_logits": True,
        "reduction": "sum",
        "name": "mine",
        "dtype": "float32",
        "ignore_class": None,
    }
    assert PolyLoss.from_config(config).get_config() == config
    assert PolyLoss(np.float32(2)).get_config()["epsilon"] == 2.0


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(epsilon=[]), "`epsilon` must be a number or a list of at least one"),
        (dict(epsilon=[1.0, "a"]), "`epsilon` must be a number. Received: epsilon='a'"),
        (dict(gamma=-1), "`gamma` must be a number at least 0. Received: gamma=-1"),
        (
            dict(label_smoothing=1.5),
            "`label_smoothing` must be a number at least 0 and at most 1. Received",
        ),
    ],
)
def test_bad_arguments_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        PolyLoss(**config)
