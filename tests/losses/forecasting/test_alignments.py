"""Soft dynamic time warping and DILATE against sums over all alignments, and their derivatives of any order."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.losses import DILATE, SoftDTW
from keras_regularize.losses.forecasting.soft_dtw import squared_distances
from keras_regularize.testing._common import fused, values_and_gradients
from tests.helpers import array, evaluate_loss, normal

Y, P = normal(3, 4), normal(3, 4, seed=1)


@functools.cache
def alignments(n, m):
    """All ordered alignments of `n` and `m` steps, as lists of pairs."""
    if n == m == 1:
        return [[(0, 0)]]
    return [
        [*path, (n - 1, m - 1)]
        for a, b in ((n - 1, m), (n, m - 1), (n - 1, m - 1))
        if a > 0 and b > 0
        for path in alignments(a, b)
    ]


def gibbs(y, p, gamma):
    """Soft-DTW value and expected squared shift, `(batch,)`, by enumeration in double precision."""
    found = []
    for a, b in zip(y.astype("float64"), p.astype("float64")):
        a, b = (z[:, None] if z.ndim == 1 else z for z in (a, b))
        costs = ((a[:, None] - b[None]) ** 2).sum(-1)
        paths = alignments(len(a), len(b))
        energy = np.array([sum(costs[pair] for pair in path) for path in paths]) / gamma
        shifts = np.array([sum((i - j) ** 2 for i, j in path) for path in paths]) / len(a) ** 2
        weights = np.exp(energy.min() - energy)
        value = gamma * (energy.min() - np.log(weights.sum()))
        found.append((value, (weights * shifts).sum() / weights.sum()))
    return np.array(found).T


@pytest.mark.parametrize("gamma", [0.01, 1.0])
@pytest.mark.parametrize("shapes", [((4,), (4,)), ((5,), (3,)), ((2, 2), (4, 2)), ((1,), (4,))])
def test_values_are_sums_over_all_alignments(shapes, gamma):
    y, p = normal(3, *shapes[0]), normal(3, *shapes[1], seed=1)
    expected = gibbs(y, p, gamma)[0]
    got = array(SoftDTW(gamma, reduction="none")(y, p))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    if shapes[0] == shapes[1]:
        for alpha in (0.0, 0.3):
            got = array(DILATE(alpha, gamma, reduction="none")(y, p))
            shape, time = gibbs(y, p, gamma)
            np.testing.assert_allclose(
                got, alpha * shape + (1 - alpha) * time, rtol=1e-4, atol=1e-5
            )


@pytest.mark.everywhere
@pytest.mark.parametrize("loss", [SoftDTW(0.5), SoftDTW(0.5, normalize=True), DILATE(0.3, 0.5)])
def test_second_derivatives(loss):
    direction = ops.convert_to_tensor(normal(3, 4, seed=2))

    def derivatives(y, p):
        return kr.autodiff.hvp(lambda p: loss(y, p), p, direction)

    gradient, product = map(array, fused(derivatives)(Y, P))
    slope = fused(lambda y, p: kr.autodiff.grad(lambda p: loss(y, p))(p))
    h, d = 1e-2, array(direction)
    quotient = (array(slope(Y, P + h * d)) - array(slope(Y, P - h * d))) / (2 * h)
    np.testing.assert_allclose(product, quotient, rtol=2e-2, atol=2e-3)
    np.testing.assert_allclose(gradient, array(slope(Y, P)), rtol=1e-5, atol=1e-6)
    assert np.abs(product).max() > 0.05


@pytest.mark.everywhere
@pytest.mark.parametrize("loss", [SoftDTW(0.01), DILATE()])
def test_long_series_in_a_compiled_step(loss):
    """Small `gamma` and large costs: nothing overflows."""
    y, p = 100 * normal(2, 60), 100 * normal(2, 60, seed=1)
    value, gradient = evaluate_loss(loss, y, p)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    dense = keras.layers.Dense(60, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((60,)), dense])
    compiled = {"jit_compile": True} if keras.backend.backend() != "torch" else {}
    model.compile(keras.optimizers.SGD(1e-3), loss, **compiled)
    got = model.train_on_batch(p, y)
    assert float(got) == pytest.approx(value.mean(), rel=1e-5)
    np.testing.assert_allclose(
        array(dense.bias), -1e-3 * gradient.mean(axis=0), rtol=1e-3, atol=1e-4
    )


def test_equal_series_cost_nothing_if_normalized():
    loss = SoftDTW(0.7, normalize=True, reduction="none")
    value, gradient = evaluate_loss(loss, Y, Y)
    np.testing.assert_allclose(value, 0.0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
    assert (array(loss(Y, P)) > 0).all()
    assert (array(SoftDTW(0.7, reduction="none")(Y, Y)) < 0).all()


def test_a_shifted_peak_costs_less_than_none():
    peak = np.exp(-(((np.arange(30) - 12) / 1.5) ** 2))[None].astype("float32")
    late, flat = np.roll(peak, 6, axis=1), np.full_like(peak, peak.mean())
    for loss in (SoftDTW(0.01), DILATE(0.9, 0.01)):
        assert float(loss(peak, late)) < 0.5 * float(loss(peak, flat))
    squared = keras.losses.MeanSquaredError()
    assert float(squared(peak, late)) > float(squared(peak, flat))
    # The shift itself is what the second term of DILATE sees.
    by_shift = [float(DILATE(0.0)(peak, np.roll(peak, k, axis=1))) for k in (0, 2, 4, 6)]
    assert (np.diff(by_shift) > 0).all()
    assert abs(float(SoftDTW(0.01)(peak, late)) - float(SoftDTW(0.01)(peak, peak))) < 0.05


def test_distances_far_from_the_origin_do_not_cancel():
    x, y = normal(2, 5, 3), normal(2, 6, 3, seed=1)
    expected = ((x[:, :, None].astype("float64") - y[:, None]) ** 2).sum(-1)
    got = squared_distances(*map(ops.convert_to_tensor, (x + 1e3, y + 1e3)))
    np.testing.assert_allclose(array(got), expected, rtol=1e-3, atol=2e-3)


def test_weights_per_series_and_nan_in_one_of_them():
    loss = SoftDTW(0.5)
    values = array(SoftDTW(0.5, reduction="none")(Y, P))
    weights = np.array([1.0, 0.0, 2.0], "float32")
    assert float(loss(Y, P, weights)) == pytest.approx((weights * values).mean(), rel=1e-5)
    wild = P.copy()
    wild[1, 2] = np.nan
    got = array(SoftDTW(0.5, reduction="none")(Y, wild))
    assert np.isnan(got[1])
    np.testing.assert_allclose(got[[0, 2]], values[[0, 2]], rtol=1e-6)


@pytest.mark.parametrize(
    "y, p, message",
    [
        (np.zeros(4), np.zeros(4), "Expected series"),
        (np.zeros((2, 4)), np.zeros((2, 4, 2)), "Expected series"),
        (np.zeros((3, 4)), np.zeros((2, 4)), "Expected series"),
        (np.zeros((2, 0)), np.zeros((2, 4)), "Expected series"),
        (np.zeros((2, 5)), np.zeros((2, 4)), "equal lengths"),
    ],
)
def test_what_cannot_be_aligned_is_refused(y, p, message):
    with pytest.raises(ValueError, match=message):
        DILATE()(y, p)
    if message != "equal lengths":
        with pytest.raises(ValueError, match=message):
            SoftDTW()(y, p)


def test_masked_steps_and_bad_arguments_are_refused():
    masked = keras.layers.Masking()(np.array([[[1.0], [0.0]]], "float32"))
    for loss in (SoftDTW(), DILATE()):
        with pytest.raises(ValueError, match="no time step can be left out"):
            loss(np.zeros((1, 2, 1)), masked)
    with pytest.raises(ValueError, match="`gamma` must be a number above 0"):
        SoftDTW(0.0)
    with pytest.raises(ValueError, match="`alpha` must be a number at least 0 and at most 1"):
        DILATE(1.5)


def test_forecasts_of_any_batch_size_and_half_precision():
    loss = SoftDTW(0.5, reduction="none")
    assert array(loss(Y[:0], P[:0])).shape == (0,)
    run = values_and_gradients(lambda p: loss.call(Y, p))
    for dtype in ("float16", "bfloat16"):
        value, gradient = run(ops.cast(P, dtype))
        assert keras.backend.standardize_dtype(gradient.dtype) == dtype
        np.testing.assert_allclose(array(value), array(loss(Y, P)), rtol=0.05, atol=0.05)
