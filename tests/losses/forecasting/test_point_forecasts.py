"""Quantiles, scaled, relative and percentage errors: values that follow from the formulas."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn import metrics

import keras_regularize as kr
from keras_regularize import losses
from keras_regularize.testing._common import fused
from tests.helpers import array, evaluate_loss, normal

Y, P = normal(6, 3), normal(6, 3, seed=1)


def close(a, b, rtol=1e-5):
    np.testing.assert_allclose(array(a), b, rtol=rtol, atol=1e-6)


def value(name, y=Y, p=P, weights=None, **config):
    return float(array(getattr(losses, name)(**config)(y, p, weights)))


def masked(p, mask):
    p = ops.convert_to_tensor(p)
    p._keras_mask = ops.convert_to_tensor(mask)
    return p


def test_several_quantiles_are_single_ones_side_by_side():
    quantiles = [0.1, 0.5, 0.8]
    y, p = normal(4, 5), normal(4, 5, 3, seed=1)
    loss = losses.Quantile(quantiles, reduction="none")
    u = y[..., None] - p
    expected = np.where(u >= 0, u * quantiles, u * (np.array(quantiles) - 1)).mean(-1)
    for targets in (y, y[..., None]):
        close(loss(targets, p), expected)
    parts = [losses.Quantile(q, reduction="none")(y, p[..., k]) for k, q in enumerate(quantiles)]
    close(np.mean([array(part) for part in parts], axis=0), expected.mean(-1))
    close(losses.Quantile(0.5)(Y, P), 0.5 * np.abs(Y - P).mean())
    _, gradient = evaluate_loss(loss, y, p)
    slopes = np.where(u > 0, -np.array(quantiles), 1 - np.array(quantiles)) / 3
    close(gradient, slopes)
    # At a target hit exactly, the same on every backend.
    _, gradient = evaluate_loss(loss, y, np.repeat(y[..., None], 3, axis=-1))
    close(gradient, np.broadcast_to(-np.array(quantiles) / 3, gradient.shape))


def test_the_best_constant_is_the_quantile():
    y = normal(101, 1)[:, 0] ** 3
    grid = np.sort(y)
    loss = losses.Quantile([0.2, 0.9], reduction="none")
    both = np.broadcast_to(grid[:, None, None], (101, 101, 2))
    costs = array(losses.Quantile(0.2, reduction="none")(np.tile(y, (101, 1)), both[..., 0]))
    assert grid[costs.argmin()] == np.quantile(y, 0.2, method="inverted_cdf")
    total = [float(np.mean(array(loss(y, both[k])))) for k in range(101)]
    assert len(set(np.round(total, 6))) > 50  # It tells them apart.


@pytest.mark.parametrize(
    "y, p",
    [
        (np.zeros((4, 3)), np.zeros((4, 3))),
        (np.zeros((4, 5)), np.zeros((4, 3))),
        (np.zeros(4), np.zeros((4, 2))),
        (np.zeros((4, 1, 1)), np.zeros((4, 3))),
    ],
)
def test_quantiles_refuse_other_shapes(y, p):
    with pytest.raises(ValueError, match=r"Expected targets \(batch, ...\).*\(batch, ..., 3\)"):
        losses.Quantile([0.1, 0.5, 0.9])(y, p)


@pytest.mark.parametrize("bad", [0.0, 1.0, [0.1, 1.5], "0.5", True, [[0.1]]])
def test_bad_quantiles_are_refused(bad):
    with pytest.raises(ValueError, match="`quantiles` must be a number above 0 and below 1"):
        losses.Quantile(bad)
    with pytest.raises(ValueError, match="must not be empty"):
        losses.Quantile([])
    assert losses.Quantile(np.array([0.1, 0.9])).get_config()["quantiles"] == [0.1, 0.9]


def test_relative_errors_are_what_they_are_relative_to():
    flat = np.full_like(Y, Y.mean())
    for name in ("RelativeAbsoluteError", "RelativeSquaredError"):
        assert value(name, p=flat) == pytest.approx(1.0, rel=1e-5)
    r2 = metrics.r2_score(Y.ravel(), P.ravel())
    assert value("RelativeSquaredError") == pytest.approx(1 - r2, rel=1e-5)
    rmse = metrics.root_mean_squared_error(Y.ravel(), P.ravel())
    scales = {"std": Y.std(), "range": Y.max() - Y.min(), "mean": abs(Y.mean())}
    for normalization, scale in scales.items():
        got = value("NormalizedRootMeanSquaredError", normalization=normalization)
        assert got == pytest.approx(rmse / scale, rel=1e-5)
    assert value("RelativeRootMeanSquaredError", p=0 * Y) == pytest.approx(1.0)
    assert value("RootMeanSquaredError", axis=None) == pytest.approx(rmse, rel=1e-5)
    total = 100 * np.abs(Y - P).sum() / np.abs(Y).sum()
    assert value("WeightedAbsolutePercentageError") == pytest.approx(total, rel=1e-5)
    y, p = np.abs(Y), np.abs(P)
    rmsle = metrics.root_mean_squared_log_error(y.ravel(), p.ravel())
    got = value("RootMeanSquaredLogarithmicError", y, p, axis=None)
    assert got == pytest.approx(rmsle, rel=1e-5)


def test_roots_per_sample_are_those_of_the_means():
    loss = losses.RootMeanSquaredError(reduction="none")
    close(ops.square(loss(Y, P)), ((Y - P) ** 2).mean(-1))
    close(loss(Y[:, 0], P[:, 0]), np.abs(Y - P)[:, 0])
    logs = keras.losses.MeanSquaredLogarithmicError(reduction="none")
    close(ops.square(losses.RootMeanSquaredLogarithmicError(reduction="none")(Y, P)), logs(Y, P))
    for axis in (-1, None):
        for name in ("RootMeanSquaredError", "RootMeanSquaredLogarithmicError"):
            exact = getattr(losses, name)(axis)
            gradient = kr.autodiff.grad(lambda p, loss=exact: loss(np.abs(Y), p))(
                ops.convert_to_tensor(np.abs(Y))
            )
            close(gradient, 0 * Y)  # An exact forecast.


COUPLED = {
    "BerHu": {},
    "NormalizedRootMeanSquaredError": {},
    "NormalizedRootMeanSquaredError, range": {"normalization": "range"},
    "NormalizedRootMeanSquaredError, mean": {"normalization": "mean"},
    "RelativeAbsoluteError": {},
    "RelativeRootMeanSquaredError": {"relative_to": "y_pred"},
    "RelativeSquaredError": {},
    "RootMeanSquaredError": {"axis": None},
    "RootMeanSquaredLogarithmicError": {"axis": None},
    "WeightedAbsolutePercentageError": {},
}


@pytest.mark.parametrize("name", COUPLED)
def test_what_does_not_count_is_in_no_sum(name):
    loss = getattr(losses, name.split(",")[0])(**COUPLED[name])
    kept = np.array([True, False, True, True, False, True])
    y, p = np.abs(Y), np.abs(P)
    weights, none = kept.astype("float32"), np.zeros(6, "float32")
    inputs = [(y, p), (y[kept], p[kept]), (y, p, none), (y[:, :1], p[:, :1], weights)]
    inputs += [(y[:, 0], p[:, :1], weights), (y[:, 0], p[:, 0], weights)]
    for junk in (7.0, np.nan, np.inf):
        wild, targets = p.copy(), y.copy()
        wild[~kept] = junk
        targets[~kept] = junk
        inputs += [(targets, wild, weights), (targets, wild)]

    def every(inputs):  # In one program.
        return [
            kr.autodiff.value_and_grad(lambda p, y=y, w=w: loss(y, p, *w))(p) for y, p, *w in inputs
        ]

    found = [tuple(map(array, pair)) for pair in fused(every)(inputs)]
    (whole, _), (expected, right), (nothing, _), *columns = found[:6]
    assert nothing == 0.0
    close([value for value, _ in columns], columns[0][0])
    for value, got in found[6::2]:
        assert value == pytest.approx(expected * 4 / 6, rel=1e-5)
        close(got[kept], right * 4 / 6, rtol=1e-4)
        assert (got[~kept] == 0).all()
    assert [np.isfinite(plain) for plain, _ in found[7::2]] == [True, False, False]
    # Masked positions of sequences.
    long = [np.concatenate([a, a + 9], axis=0).reshape(2, 6, 3) for a in (y, p)]
    mask = np.array([[True] * 6, [False] * 6])
    assert float(loss(long[0], masked(long[1], mask))) == pytest.approx(whole, rel=1e-5)
    values = array(type(loss)(**COUPLED[name], reduction="none")(*long))
    assert values.shape == (2, 6)


@pytest.mark.parametrize("name", COUPLED)
def test_constant_targets_and_no_targets(name):
    config = COUPLED[name]
    loss = getattr(losses, name.split(",")[0])(**config, reduction="none")
    for y in (0 * Y, 0 * Y + 1):
        values, gradient = evaluate_loss(loss, y, np.abs(P))
        assert np.isfinite(values).all() and np.isfinite(gradient).all()
        values, gradient = evaluate_loss(loss, y, y)
        assert (values == 0).all() and (gradient == 0).all()
    assert array(loss(Y[:0], P[:0])).shape == (0,)


def test_symmetric_percentages_are_bounded():
    loss = losses.SymmetricMeanAbsolutePercentageError(reduction="none")
    y = np.array([100.0, 0.0, 0.0, -1.0, 1e-3], "float32")[:, None]
    p = np.array([110.0, 0.0, 1e-4, 1.0, 1e4], "float32")[:, None]
    values, gradient = evaluate_loss(loss, y, p)
    close(values, [100 * 20 / 210, 0, 200, 200, 200], rtol=1e-4)
    assert gradient[0] > 0 and (gradient[1:4] == 0).all()
    assert float(losses.MeanBiasError()(y, p)) == pytest.approx(float((y - p).mean()))


def test_the_scale_is_the_error_of_the_naive_forecast():
    series = np.cumsum(normal(50, 2), axis=0)
    for m in (1, 7):
        loss = losses.MeanAbsoluteScaledError.from_series(series, seasonality=m, name="mase")
        naive = np.abs(series[m:] - series[:-m]).mean(axis=0)
        close(loss.scale, naive)
        assert float(loss(series[m:], series[:-m])) == pytest.approx(1.0, rel=1e-5)
        restored = keras.losses.deserialize(keras.losses.serialize(loss))
        assert restored.scale == loss.scale and restored.name == "mase"
        one = losses.MeanAbsoluteScaledError.from_series(series[:, 0], m)
        assert one.scale == pytest.approx(naive[0])
        close(one(Y, P), np.abs(Y - P).mean() / naive[0])
    with pytest.raises(ValueError, match="one per output. Received: 2 scales"):
        loss(Y, P)
    with pytest.raises(ValueError, match="one per output. Received: 2 scales"):
        loss(Y[:2, 0], P[:2, 0])
    for bad in (np.ones(9), np.array([1.0, np.nan, 2.0])):
        with pytest.raises(ValueError, match="has no scale"):
            losses.MeanAbsoluteScaledError.from_series(bad)
    with pytest.raises(ValueError, match="more than 7 time steps"):
        losses.MeanAbsoluteScaledError.from_series(np.arange(7.0), 7)
    with pytest.raises(ValueError, match="`scale` must be a number above 0"):
        losses.MeanAbsoluteScaledError(0.0)


@pytest.mark.parametrize(
    "name, config, message",
    [
        ("RootMeanSquaredError", {"axis": 0}, "`axis` must be one of -1, None"),
        ("NormalizedRootMeanSquaredError", {"normalization": "iqr"}, "`normalization` must be"),
        ("RelativeRootMeanSquaredError", {"relative_to": "y"}, "`relative_to` must be one of"),
    ],
)
def test_bad_arguments_are_refused(name, config, message):
    with pytest.raises(ValueError, match=message):
        getattr(losses, name)(**config)


@pytest.mark.parametrize("name", [*COUPLED, "MeanBiasError", "MeanAbsoluteScaledError"])
def test_shapes_that_do_not_fit_are_refused(name):
    loss = getattr(losses, name.split(",")[0])()
    for y in (np.zeros((6, 1)), np.zeros(6), np.zeros((1, 3))):
        with pytest.raises(ValueError, match="`y_true` must have the shape of `y_pred`"):
            loss(y, P)
    close(loss(np.arange(6, dtype="uint8"), P[:, :1]), array(loss(np.arange(6.0), P[:, 0])))
