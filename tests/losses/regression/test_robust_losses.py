"""Robust losses and deviances: formulas, limits, and what outliers do."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn import metrics
from sklearn.datasets import load_diabetes

from keras_regularize import losses
from keras_regularize.autodiff import value_and_grad
from keras_regularize.testing._common import fused
from tests.helpers import array, evaluate_loss, normal

E = np.array([[-30.0, -3.0, -1.0, -0.3], [0.0, 0.2, 0.9, 12.0]], "float32")


def balanced_l1(d, alpha=0.5, gamma=1.5, beta=1.0):
    b = np.exp(gamma / alpha) - 1
    small = alpha / b * (b * d + 1) * np.log(b * d / beta + 1) - alpha * d
    return np.where(d < beta, small, gamma * d + gamma / b - alpha * beta)


def ber_hu(d, threshold=0.2):
    c = threshold * d.max()
    return np.where(d <= c, d, (d**2 + c**2) / (2 * c))


def wing(d, width=10.0, curvature=2.0):
    constant = width - width * np.log(1 + width / curvature)
    return np.where(d < width, width * np.log(1 + d / curvature), d - constant)


PIECEWISE = [
    ("BalancedL1", balanced_l1, {}),
    ("BalancedL1", balanced_l1, {"alpha": 0.3, "gamma": 1.0, "beta": 2.0}),
    ("BerHu", ber_hu, {}),
    ("BerHu", ber_hu, {"threshold": 0.05}),
    ("Wing", wing, {}),
    ("Wing", wing, {"width": 2.0, "curvature": 0.5}),
]


@pytest.mark.everywhere
@pytest.mark.parametrize("name, formula, config", PIECEWISE)
def test_piecewise_losses_equal_the_formula(name, formula, config):
    loss = getattr(losses, name)(**config, reduction="none")
    y = normal(2, 4)
    d = np.abs(E.astype("float64"))
    value, gradient = evaluate_loss(loss, y, y + E)
    np.testing.assert_allclose(value, formula(d, **config).mean(-1), rtol=1e-5)
    h = 1e-4
    largest = d.max()  # Of which the threshold is a constant of the gradient.

    def at(e):
        return [formula(np.append(np.abs(x), largest), **config)[0] for x in e.ravel()]

    inside = np.abs(E.astype("float64")) < largest
    quotient = np.subtract(at(E.astype("float64") + h), at(E.astype("float64") - h)) / (2 * h)
    quotient = quotient.reshape(E.shape) / 4
    quotient[E == 0] = 0.0
    np.testing.assert_allclose(gradient[inside], quotient[inside], rtol=2e-3, atol=1e-6)


def test_ber_hu_of_no_errors_and_of_a_high_threshold():
    loss = losses.BerHu(reduction="none")
    value, gradient = evaluate_loss(loss, E, E)
    assert (value == 0).all() and (gradient == 0).all()
    high = losses.BerHu(threshold=1.0, reduction="none")
    np.testing.assert_allclose(array(high(0 * E, E)), np.abs(E).mean(-1), rtol=1e-6)


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0, 1.5, 2.0, 3.0])
def test_tweedie_is_that_of_scikit_learn(power):
    y = np.abs(normal(20, 1))[:, 0] + 0.1
    mean = np.abs(normal(20, 1, seed=1))[:, 0] + 0.1
    if 1 <= power < 2:
        y[::3] = 0.0
    expected = metrics.mean_tweedie_deviance(y, mean, power=power)
    loss = losses.Tweedie(power)
    assert float(loss(y, mean)) == pytest.approx(expected, rel=1e-5)
    logits = losses.Tweedie(power, from_logits=True)
    assert float(logits(y, np.log(mean))) == pytest.approx(expected, rel=1e-4)
    value, gradient = evaluate_loss(loss, y, y + (y == 0) * 1e-3)
    np.testing.assert_allclose(value[y > 0], 0.0, atol=1e-5)
    np.testing.assert_allclose(gradient[y > 0], 0.0, atol=1e-3)
    wild = np.array([-1e4, 1e4, 0.0, 1.0], "float32")
    value, gradient = evaluate_loss(logits, np.ones(4), wild)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    if 1 <= power <= 2:
        assert (np.sign(gradient[:2]) == [-1, 1]).all()


def test_tweedie_of_targets_out_of_range_says_so():
    y, mean = np.array([-1.0, 0.0, 1.0]), np.ones(3)
    for power, wrong in ((1.0, 1), (1.5, 1), (2.0, 2), (3.0, 2), (0.0, 0), (-1.0, 0)):
        value, gradient = evaluate_loss(losses.Tweedie(power, reduction="none"), y, mean)
        assert np.isnan(value).sum() == wrong
        assert np.isfinite(gradient[wrong:]).all()
    # Keras' Poisson loss up to a constant.
    counts, p = np.arange(3.0), np.array([0.5, 1.0, 3.0])
    difference = array(losses.Tweedie(1.0, reduction="none")(counts, p)) - 2 * array(
        ops.stack([keras.losses.Poisson()(c[None], q[None]) for c, q in zip(counts, p)])
    )
    constant = 2 * (counts * np.log(np.maximum(counts, 1)) - counts)
    np.testing.assert_allclose(difference, constant, atol=1e-4)
    with pytest.raises(ValueError, match="`power` must be at most 0 or at least 1"):
        losses.Tweedie(0.5)


def test_pseudo_huber_in_its_limits():
    def loss(delta, scaling, y, p):
        return array(losses.PseudoHuber(delta, scaling, reduction="none")(y, p))

    zero, e = np.zeros(3, "float32"), np.array([1e-2, -2.0, 30.0], "float32")
    np.testing.assert_allclose(loss(1e4, "l2", zero, e), e**2, rtol=1e-5)
    np.testing.assert_allclose(loss(1e3, "huber", zero, e), e**2 / 2, rtol=1e-3)
    np.testing.assert_allclose(loss(1e-6, "l1", zero, e), 2 * np.abs(e), rtol=1e-3)
    assert loss(1e3, "huber", zero, e)[0] == pytest.approx(5e-5, rel=1e-4)  # No cancellation.
    for scaling, bound in (("huber", 0.3), ("l2", 0.6), ("l1", 2.0)):
        smooth = losses.PseudoHuber(0.3, scaling, reduction="none")
        value, gradient = evaluate_loss(smooth, zero, np.array([0.0, 1e4, -1e4]))
        assert value[0] == 0 and gradient[0] == 0
        np.testing.assert_allclose(gradient[1:], [bound, -bound], rtol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: losses.PseudoHuber(0.0), "`delta` must be a number above 0"),
        (lambda: losses.PseudoHuber(scaling="l3"), "`scaling` must be one of 'huber', 'l2', 'l1'"),
        (lambda: losses.BalancedL1(beta=0), "`beta` must be a number above 0"),
        (lambda: losses.BalancedL1(alpha=0.01), "at most 60 times `alpha`"),
        (lambda: losses.BerHu(-1), "`threshold` must be a number above 0"),
        (lambda: losses.Wing(width=0), "`width` must be a number above 0"),
        (lambda: losses.Wing(curvature=-1), "`curvature` must be a number above 0"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def fit(losses_by_name, outputs, x, y, steps=400):
    """Linear models, `{name: (kernel, bias)}`, by Adam from zero, all in one program."""
    start = [np.zeros((x.shape[1], outputs), "float32"), np.zeros(outputs, "float32")]
    weights = {name: [ops.convert_to_tensor(w) for w in start] for name in losses_by_name}
    x, y = map(ops.convert_to_tensor, (x, y))

    def total(weights):
        return sum(
            loss(y, ops.matmul(x, weights[name][0]) + weights[name][1])
            for name, loss in losses_by_name.items()
        )

    step = fused(lambda weights: value_and_grad(total)(weights)[1])
    moments = {name: [(0.0, 0.0)] * 2 for name in weights}
    for t in range(1, steps + 1):
        gradients = step(weights)
        for name, gs in gradients.items():
            for k, g in enumerate(map(array, gs)):
                m, v = moments[name][k]
                m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
                moments[name][k] = m, v
                move = 0.02 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
                weights[name][k] = ops.convert_to_tensor(array(weights[name][k]) - move)
    return {name: [array(w) for w in ws] for name, ws in weights.items()}


@pytest.mark.rotating
def test_effects_on_the_diabetes_data():
    """Intervals hold what they say; outliers among the targets move robust losses less than squared error."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order] / x.std(axis=0), (y[order] - y.mean()) / y.std()
    x, y = x.astype("float32"), y.astype("float32")
    train, test = slice(0, 300), slice(300, None)
    few = x[:, [2, 8]]  # Body mass and a serum: with all ten, 300 samples are fitted too closely.
    kernel, bias = fit({"q": losses.Quantile([0.1, 0.9])}, 2, few[train], y[train])["q"]
    low, high = (few[test] @ kernel + bias).T
    coverage = np.mean((low <= y[test]) & (y[test] <= high))
    assert 0.72 < coverage < 0.88  # 142 samples: a standard error of 0.034.

    dirty = y[train].copy()
    dirty[::20] += 15.0  # Of a standard deviation of 1, five in a hundred.
    candidates = {
        "mse": keras.losses.MeanSquaredError(),
        "mae": keras.losses.MeanAbsoluteError(),
        "huber": keras.losses.Huber(0.5),
        "pseudo": losses.PseudoHuber(0.5),
    }
    models = fit(candidates, 1, x[train], dirty[:, None])
    errors = {
        name: np.abs(x[test] @ kernel[:, 0] + bias - y[test]).mean()
        for name, (kernel, bias) in models.items()
    }
    for name in ("mae", "huber", "pseudo"):
        assert errors[name] < 0.9 * errors["mse"], errors
