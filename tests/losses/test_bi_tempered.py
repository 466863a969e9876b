"""BiTempered: against the formula in float64, its limits, and its derivatives."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.losses import BiTempered
from keras_regularize.testing._common import to_numpy
from tests.helpers import evaluate_loss

TEMPERATURES = [(0.8, 1.2), (0.2, 4.0), (1.0, 1.5), (0.5, 0.6), (0.0, 1.0), (1.0, 1.0), (0.9, 1.01)]


def exp_t(u, t):
    return np.exp(u) if t == 1 else np.maximum(1 + (1 - t) * u, 0) ** (1 / (1 - t))


def log_t(x, t):
    return np.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def tempered_softmax(z, t):
    """By halving an interval that holds the normalization."""
    low, high = z.max(), z.max() + 1e10
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if exp_t(z - middle, t).sum() > 1 else (low, middle)
    return exp_t(z - low, t)


def oracle(rows, z, t1, t2, smoothing=0.0):
    values = []
    for y, row in zip(np.asarray(rows, "float64"), np.asarray(z, "float64")):
        y = np.where(y == 1, 1 - smoothing, smoothing / (len(y) - 1)) if smoothing else y
        p = tempered_softmax(row, t2)
        total = 0.0
        for a, b in zip(y, p):
            if a:
                total += a * (log_t(a, t1) - log_t(b, t1))
            total -= (a ** (2 - t1) - b ** (2 - t1)) / (2 - t1)
        values.append(total)
    return np.array(values)


def authors_gradient(rows, z, t1, t2):
    """The derivative as the authors write it out, with the escort distribution of the normalization."""
    slopes = []
    for y, row in zip(rows, np.asarray(z, "float64")):
        p = tempered_softmax(row, t2)
        moved = (p - y) * p ** (t2 - t1)
        escort = p**t2 / np.sum(p**t2)
        slopes.append(moved - escort * moved.sum())
    return np.array(slopes)


def random_case(batch=5, classes=4, scale=2.0, seed=0):
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(batch, classes))).astype("float32")
    return rng.integers(0, classes, batch), z


@pytest.mark.parametrize("t1, t2", TEMPERATURES)
def test_equals_the_formula_with_a_normalization_by_halving(t1, t2):
    ids, z = random_case(scale=2.0 if t2 > 0.9 else 0.5)  # Of probabilities above 0.
    rows = np.eye(4)[ids]
    for labels in (ids, rows):
        value, slope = evaluate_loss(BiTempered(t1, t2), labels, z)
        np.testing.assert_allclose(value, oracle(rows, z, t1, t2), rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(slope, authors_gradient(rows, z, t1, t2), rtol=1e-3, atol=2e-5)
    soft = 0.6 * rows + 0.1
    value, slope = evaluate_loss(BiTempered(t1, t2), soft, z)
    np.testing.assert_allclose(value, oracle(soft, z, t1, t2), rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(slope, authors_gradient(soft, z, t1, t2), rtol=1e-3, atol=2e-5)
    smooth, _ = evaluate_loss(BiTempered(t1, t2, label_smoothing=0.3), ids, z)
    np.testing.assert_allclose(smooth, oracle(rows, z, t1, t2, 0.3), rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("t2", [0.4, 1.2, 4.0])
@pytest.mark.parametrize("classes, scale", [(2, 1.0), (1000, 0.01), (1000, 5.0)])
def test_probabilities_sum_to_1_for_any_number_of_classes(t2, classes, scale):
    ids, z = random_case(3, classes, scale)
    rows = np.eye(classes)[ids]
    value, slope = evaluate_loss(BiTempered(0.5, t2), ids, z)
    np.testing.assert_allclose(value, oracle(rows, z, 0.5, t2), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(slope.sum(-1), 0.0, atol=1e-5)


def test_temperatures_of_1_are_crossentropy():
    ids, z = random_case()
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")(
        ids, z
    )
    value, _ = evaluate_loss(BiTempered(1.0, 1.0), ids, z)
    np.testing.assert_allclose(value, to_numpy(expected), rtol=1e-5)
    near, _ = evaluate_loss(BiTempered(1.0 - 1e-3, 1.0 + 1e-3), ids, z)
    np.testing.assert_allclose(near, value, rtol=2e-2)


def test_authors_normalization_of_five_iterations_and_label_smoothing():
    ids, z = random_case()
    w = np.asarray(z, "float64")
    top = w.max(-1, keepdims=True)
    scaled = w - top
    for _ in range(5):
        scaled = (w - top) * exp_t(scaled, 1.2).sum(-1, keepdims=True) ** -0.2
    normalizer = top - log_t(1 / exp_t(scaled, 1.2).sum(-1, keepdims=True), 1.2)
    p = exp_t(w - normalizer, 1.2)
    y = (1 - 4 / 3 * 0.3) * np.eye(4)[ids] + 0.3 / 3
    expected = y * (log_t(y, 0.8) - log_t(p, 0.8)) - (y**1.2 - p**1.2) / 1.2
    value, _ = evaluate_loss(BiTempered(0.8, 1.2, label_smoothing=0.3), ids, z)
    np.testing.assert_allclose(value, expected.sum(-1), rtol=1e-5)


@pytest.mark.parametrize("t2", [1.0, 1.5])
def test_rows_that_do_not_sum_to_1_have_the_divergence_of_the_formula(t2):
    ids, z = random_case()
    rows = 0.5 * np.eye(4)[ids] + 0.05
    value, _ = evaluate_loss(BiTempered(1.0, t2), rows, z)
    np.testing.assert_allclose(value, oracle(rows, z, 1.0, t2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t1, t2", [(0.2, 1.5), (0.8, 1.0), (0.5, 0.5)])
def test_an_outlier_costs_no_more_than_the_bound(t1, t2):
    z = np.array([[1e4, 0, -1e4, 0]], "float32")
    value, slope = evaluate_loss(BiTempered(t1, t2), np.array([2]), z)
    bound = 1 / (1 - t1)
    assert 0.5 * bound < value[0] <= bound + 1e-4
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("t1, t2", [(0.8, 1.2), (0.5, 0.6), (1.0, 2.0)])
def test_a_constant_changes_nothing_and_the_own_label_costs_nothing(t1, t2):
    ids, z = random_case(scale=0.5)
    z = np.round(8 * z) / 8
    for found, expected in zip(
        evaluate_loss(BiTempered(t1, t2), ids, z + 1000), evaluate_loss(BiTempered(t1, t2), ids, z)
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    p = np.stack([tempered_softmax(row.astype("float64"), t2) for row in z])
    value, slope = evaluate_loss(BiTempered(t1, t2), p, z)
    np.testing.assert_allclose(value, 0.0, atol=1e-5)
    np.testing.assert_allclose(slope, 0.0, atol=1e-5)


def test_second_derivatives_are_those_of_the_formula():
    ids, z = random_case(1, 3)
    loss = BiTempered(0.7, 1.6)

    def slope_along(d):
        def total(s):
            moved = ops.convert_to_tensor(z) + s * ops.convert_to_tensor(d)
            return ops.sum(loss.call(ids, moved))

        return kr.autodiff.grad(kr.autodiff.grad(total))(ops.convert_to_tensor(np.float32(0)))

    d = np.array([[0.5, -1.0, 0.8]], "float32")
    h, rows = 1e-3, np.eye(3)[ids]
    around = [oracle(rows, z + s * d.astype("float64"), 0.7, 1.6)[0] for s in (-h, 0, h)]
    expected = (around[0] - 2 * around[1] + around[2]) / h**2
    np.testing.assert_allclose(float(to_numpy(slope_along(d))), expected, rtol=1e-2)


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(t1=1.5), "`t1` must be a number at least 0 and at most 1"),
        (dict(t2=0), "`t2` must be a number above 0 and below inf"),
        (dict(t2=float("inf")), "`t2` must be a number above 0 and below inf"),
        (dict(label_smoothing=2), "`label_smoothing` must be a number"),
        (dict(iterations=0), "`iterations` must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        BiTempered(**config)
