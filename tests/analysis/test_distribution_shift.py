"""Weights under target and covariate shift: known ratios, the choice of the strength, and what they are for."""

import keras
import numpy as np
import pytest

import keras_regularize as kr

once = pytest.mark.once


def shifted(count=200, seed=0, noise=1.0):
    """Standard normal labels of the source, those of the target about 0.7; and the ratio of their densities."""
    rng = np.random.default_rng(seed)
    y, target = rng.normal(size=count), 0.7 + 0.7 * rng.normal(size=count)
    x, x_target = (z + noise * rng.normal(size=count) for z in (y, target))
    return y, x, x_target, np.exp(0.5 * y**2 - 0.5 * ((y - 0.7) / 0.7) ** 2) / 0.7


@once
def test_weights_are_close_to_the_ratio():
    y, x, x_target, ratio = shifted(seed=4)
    weights = kr.analysis.target_shift_weights(y, x, x_target, regularization=0.1)
    assert np.corrcoef(weights, ratio)[0, 1] > 0.9
    assert abs(np.average(y, weights=weights) - 0.7) < 0.2 < abs(y.mean() - 0.7)
    far = kr.analysis.target_shift_weights(y, x, x_target, regularization=1e9)
    np.testing.assert_allclose(far, 1.0, atol=1e-6)


@once
def test_without_a_shift_weights_are_one():
    y, x, _, _ = shifted(60)
    for regularization in (1e-3, 1.0):
        weights = kr.analysis.target_shift_weights(y, x, x, regularization=regularization)
        np.testing.assert_allclose(weights, 1.0, atol=1e-9)
    np.testing.assert_allclose(kr.analysis.TargetShift().fit(y, x, x).weights, 1.0, atol=1e-9)


@once
def test_columns_have_their_own_bandwidth():
    rng = np.random.default_rng(0)
    y, x, t = rng.normal(size=(30, 2)), rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    units = np.array([1.0, 100.0, 1e-3])
    one = kr.analysis.target_shift_weights(y, x, t)
    np.testing.assert_allclose(
        kr.analysis.target_shift_weights(y, x * units, t * units), one, rtol=1e-6
    )
    given = {
        "y_bandwidth": y.std(axis=0) * 30 ** (-1 / 6),
        "x_bandwidth": x.std(axis=0) * 30 ** (-1 / 7),
    }
    np.testing.assert_allclose(kr.analysis.target_shift_weights(y, x, t, **given), one, rtol=1e-9)


@once
def test_the_choice_is_that_of_a_loop():
    y, x, t, ratio = shifted(60, noise=0.5)
    rng = np.random.default_rng(3)
    source, target = rng.permutation(60) % 5, rng.permutation(60) % 5
    h, k = x.std() * 60**-0.2, y.std() * 60**-0.2

    def kernel(a, b, width):
        return np.array([[np.exp(-0.5 * ((u - v) / width) ** 2) for v in b] for u in a])

    grid, table = 10.0 ** np.arange(-3, 1.25, 0.5), []
    for fold in range(5):
        ys, xs, ts = y[source != fold], x[source != fold], t[target != fold]
        yl, xl, tl = y[source == fold], x[source == fold], t[target == fold]
        eta = kernel(xs, ts, h).mean(1) / kernel(xs, xs, h).mean(1)
        a, b = (m / m.sum(1)[:, None] for m in (kernel(xs, xs, h), kernel(ys, ys, k)))
        new = kernel(yl, ys, k)
        row = []
        for strength in grid:
            rho = np.linalg.inv(strength * np.eye(len(ys)) + b @ a) @ b @ (eta - 1)
            w = np.maximum(1 + new / new.sum(1)[:, None] @ (eta - 1 - a @ rho) / strength, 0)
            w = w / w.sum()
            row.append(w @ kernel(xl, xl, 2 * h) @ w - 2 * w @ kernel(xl, tl, 2 * h).mean(1))
        table.append(row)
    mean, best = np.mean(table, 0), np.argmin(np.mean(table, 0))
    chosen = max(grid[mean <= mean[best] + np.std(table, 0, ddof=1)[best] / np.sqrt(5)])
    shift = kr.analysis.TargetShift(seed=3).fit(y, x, t)
    assert shift.regularization_ == pytest.approx(chosen)
    expected = kr.analysis.target_shift_weights(y, x, t, regularization=chosen)
    np.testing.assert_allclose(shift.weights, expected)
    assert np.mean((shift.weights - ratio) ** 2) < 0.6 * np.mean((1 - ratio) ** 2)


@once
def test_odds_of_a_classifier_are_the_ratio_of_densities():
    x = np.linspace(-2, 2, 9)
    source, target = (np.exp(-0.5 * (x - shift) ** 2) for shift in (0.0, 0.6))
    p = 0.2 * target / (0.2 * target + 0.8 * source)
    weights = kr.analysis.covariate_shift_weights(p[:, None], target_share=0.2)
    np.testing.assert_allclose(weights, target / source)
    logits = np.log(p / (1 - p))
    again = kr.analysis.covariate_shift_weights(logits, target_share=0.2, from_logits=True)
    np.testing.assert_allclose(again, weights)


@once
def test_what_does_not_fit_is_refused():
    y, x, t = np.arange(9.0), np.arange(9.0), np.arange(5.0)
    weights = kr.analysis.target_shift_weights
    for given in (
        (y[:4], x, t),
        (y, x[:, None], np.zeros((5, 2))),
        (y, x, t[:0]),
        (y, x, t.reshape(5, 1, 1)),
    ):
        with pytest.raises(ValueError, match="Received"):
            weights(*given)
    with pytest.raises(ValueError, match="not finite"):
        weights(y, np.where(x > 3, np.nan, x), t)
    with pytest.raises(ValueError, match="constant"):
        weights(0 * y, x, t)
    with pytest.raises(ValueError, match="`x_bandwidth` must be"):
        weights(y, x, t, x_bandwidth=[1.0, 2.0])
    with pytest.raises(ValueError, match="regularization"):
        weights(y, x, t, regularization=0.0)
    with pytest.raises(ValueError, match="at least 50 samples"):
        kr.analysis.TargetShift().fit(y, x, t)
    with pytest.raises(ValueError, match="call `fit`"):
        kr.analysis.TargetShift().weights  # noqa: B018
    with pytest.raises(ValueError, match="must have `predict`"):
        kr.analysis.TargetShift(model=len)
    for scores in ([0.5, 1.0], [0.5, -0.1], [np.nan]):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            kr.analysis.covariate_shift_weights(scores)
    with pytest.raises(ValueError, match="logits"):
        kr.analysis.covariate_shift_weights([800.0], from_logits=True)
    with pytest.raises(ValueError, match=r"\(n, 1\)"):
        kr.analysis.covariate_shift_weights(np.full((3, 2), 0.5))


def regressor(x, y, weights=None):
    """A linear model of a relation that is not."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    repeat = 60  # Steps on all samples, in one epoch.
    weights = np.ones(len(x)) if weights is None else weights
    x, y, weights = (np.tile(z, (repeat,) + (1,) * (z.ndim - 1)) for z in (x, y, weights))
    model.fit(x, y, sample_weight=weights, batch_size=len(x) // repeat, shuffle=False, verbose=0)
    return model


@pytest.mark.everywhere
def test_the_weighted_regressor_is_better_on_the_target():
    rng = np.random.default_rng(0)

    def population(mean, deviation, count):
        y = mean + deviation * rng.normal(size=count)
        x = np.stack([np.tanh(y), y**2 / 4], axis=1) + 0.3 * rng.normal(size=(count, 2))
        return x.astype("float32"), y.astype("float32")

    x, y = population(0.0, 1.0, 400)
    target, labels = population(1.0, 0.6, 400)
    plain = regressor(x[:200], y[:200])
    shift = kr.analysis.TargetShift(plain).fit(y[200:], x[200:], target)
    errors = [
        float(regressor(x[200:], y[200:], weights).evaluate(target, labels, verbose=0))
        for weights in (None, shift.weights)
    ]
    assert errors[1] < 0.9 * errors[0], errors
