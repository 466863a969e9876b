"""Losses of predicted distributions: against their definitions, in the tails, and at what they are for."""

import math
import statistics

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_diabetes

import keras_regularize as kr
from keras_regularize.testing._common import save_and_load
from tests.helpers import array, evaluate_loss, normal, number

losses = kr.losses
GAUSSIAN = [losses.GaussianNegativeLogLikelihood(), losses.GaussianCRPS()]
MIXTURE = [losses.GaussianMixtureNegativeLogLikelihood(), losses.GaussianMixtureCRPS()]


def named(loss):
    return type(loss).__name__


def parameters(y_pred):
    """Weights, means and deviations in float64, component by component."""
    logits, means, raw = np.split(np.asarray(y_pred, "float64"), 3, axis=-1)
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return weights, means, np.logaddexp(raw, 0.0) + 1e-6


def mixture_cdf(t, weights, means, scales):
    erf = np.vectorize(math.erf)
    return np.sum(weights * 0.5 * (1 + erf((t[:, None] - means) / scales / math.sqrt(2))), axis=-1)


def as_mixture(y_pred):
    """A Gaussian as a mixture of one."""
    return np.concatenate([np.zeros_like(y_pred[..., :1]), y_pred], axis=-1)


# Gaussians and mixtures


def test_mixtures_have_the_scores_of_the_definitions():
    y, y_pred = normal(5), normal(5, 6, seed=1)
    grid = np.linspace(-30, 30, 60_001)
    for i in range(5):
        weights, means, scales = parameters(y_pred[i])
        cdf = mixture_cdf(grid, weights, means, scales)
        score = np.sum((cdf - (grid >= y[i])) ** 2) * (grid[1] - grid[0])
        density = np.sum(
            weights
            * np.exp(-0.5 * ((y[i] - means) / scales) ** 2)
            / scales
            / math.sqrt(2 * math.pi)
        )
        row = y[i : i + 1], y_pred[i : i + 1]
        assert number(MIXTURE[0](*row)) == pytest.approx(-math.log(density), rel=1e-5)
        assert number(MIXTURE[1](*row)) == pytest.approx(score, abs=1e-3)
        expected = mixture_cdf(y[i : i + 1], weights, means, scales)
        np.testing.assert_allclose(array(losses.gaussian_mixture_cdf(*row)), expected, atol=1e-6)


@pytest.mark.parametrize(
    "single, mixture", list(zip(GAUSSIAN, MIXTURE)), ids=["likelihood", "CRPS"]
)
def test_a_gaussian_is_a_mixture_of_one(single, mixture):
    y, y_pred = normal(4, 3), 2 * normal(4, 3, 2, seed=1)
    values, gradient = evaluate_loss(single, y, y_pred)
    for given in (y_pred, as_mixture(y_pred)):
        others = evaluate_loss(mixture, y[..., None], given)
        np.testing.assert_allclose(others[0], values, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(others[1][..., -2:], gradient, rtol=1e-4, atol=1e-6)
    equal = np.repeat(as_mixture(y_pred), 3, axis=-1)  # Of three equal components.
    np.testing.assert_allclose(evaluate_loss(mixture, y, equal)[0], values, rtol=1e-5, atol=1e-6)


def test_beta_weighs_by_the_variance():
    y, y_pred = normal(4), normal(4, 2, seed=1)
    likelihood = evaluate_loss(losses.GaussianNegativeLogLikelihood(), y, y_pred)
    scale = np.logaddexp(y_pred[:, 1], 0.0) + 1e-6
    values, gradient = evaluate_loss(losses.GaussianNegativeLogLikelihood(beta=1.0), y, y_pred)
    np.testing.assert_allclose(values, likelihood[0] * scale**2, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, 0], y_pred[:, 0] - y, rtol=1e-4)


@pytest.mark.parametrize("loss", GAUSSIAN + MIXTURE, ids=named)
def test_values_and_gradients_are_finite_far_out(loss):
    far = [(m, r) for m in (-1e4, 0.0, 1e4) for r in (-1e4, -50.0, 0.0, 1e4)]
    y_pred = np.array(far, "float32")
    y_pred = np.concatenate([as_mixture(y_pred)] * 2, axis=-1) if loss in MIXTURE else y_pred
    values, gradient = evaluate_loss(loss, np.full(len(far), 3.0, "float32"), y_pred)
    assert np.isfinite(values).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [GAUSSIAN[1], MIXTURE[1]], ids=named)
def test_far_from_the_target_the_crps_is_the_distance(loss):
    y_pred = np.array([[1e4, -20.0], [-3e3, -20.0], [5.0, -20.0]], "float32")
    given = as_mixture(y_pred) if loss is MIXTURE[1] else y_pred
    values, gradient = evaluate_loss(loss, np.zeros(3, "float32"), given)
    np.testing.assert_allclose(values, [1e4, 3e3, 5.0], rtol=1e-6)
    np.testing.assert_allclose(gradient[:, -2], [1.0, -1.0, 1.0], atol=1e-6)


def test_a_far_mixture_moves_by_the_shares_of_its_components():
    y_pred = np.array([[0.0, 0.0, 1e4, 1e4, 0.0, 0.0]], "float32")
    _, gradient = evaluate_loss(MIXTURE[0], np.zeros(1, "float32"), y_pred)
    scale = math.log(2.0) + 1e-6
    np.testing.assert_allclose(gradient[0, 2:4], 0.5e4 / scale**2, rtol=1e-5)


@pytest.mark.parametrize("loss", GAUSSIAN + MIXTURE + [losses.EnsembleCRPS()], ids=named)
def test_shapes_that_do_not_fit_are_refused(loss):
    wrong = {4: (4, 5), 3: (4, 3, 7), 0: (4,)}
    for shape in [*wrong.values(), (3, 6), (4, 2, 6)]:
        if isinstance(loss, losses.EnsembleCRPS) and shape == (4, 5):
            continue
        with pytest.raises(ValueError, match="Received"):
            loss(np.zeros(4), np.zeros(shape))


@pytest.mark.parametrize("loss", GAUSSIAN + MIXTURE + [losses.EnsembleCRPS()], ids=named)
def test_integer_targets_and_padding(loss):
    y = np.array([[1, 2, 0], [0, 3, 1]], "uint8")
    y_pred = normal(2, 3, 6 if loss in MIXTURE else 2)
    values = evaluate_loss(loss, y.astype("float32"), y_pred)[0]
    np.testing.assert_allclose(array(type(loss)(reduction="none")(y, y_pred)), values, rtol=1e-6)
    # What has no weight may be anything.
    wild, weight = np.array(y_pred), np.array([[1, 1, 1], [1, 0, 1]], "float32")
    wild[1, 1] = 1e4
    got = number(type(loss)(reduction="sum")(y, wild, sample_weight=weight))
    assert got == pytest.approx(float((weight * values).sum()), rel=1e-5)


@pytest.mark.parametrize("loss", GAUSSIAN + MIXTURE, ids=named)
def test_minima_are_the_distribution_of_the_targets(loss):
    """Of constant predictions, the one with the moments of the targets has no gradient."""
    y = np.array([-1.0, 0.2, 0.8, 2.0], "float32")
    deviation = y.std()
    row = np.array([y.mean(), np.log(np.expm1(deviation))], "float32")
    row = row if loss in GAUSSIAN else as_mixture(row)
    _, gradient = evaluate_loss(loss, y, np.tile(row, (4, 1)))
    assert abs(gradient[:, -2].mean()) < 1e-6 or "CRPS" in named(loss)
    if "CRPS" not in named(loss):
        assert abs(gradient[:, -1].mean()) < 1e-5


def test_the_head_gives_out_mixtures_that_are_trained_and_saved():
    keras.utils.set_random_seed(0)
    x = normal(64, 3)
    y = np.where(np.arange(64) % 2, 1.0, -1.0) + 0.1 * normal(64, seed=1)  # Two peaks.
    head = kr.layers.GaussianMixture(2)
    model = keras.Sequential([keras.Input((3,)), head])
    kernel, bias = head.get_weights()
    np.testing.assert_allclose(bias, [0, 0, -1, 1, 0, 0])
    np.testing.assert_allclose(array(model(x)), x @ kernel + bias, rtol=1e-4, atol=1e-5)
    model.compile(
        keras.optimizers.Adam(0.05),
        losses.GaussianMixtureNegativeLogLikelihood(),
        metrics=[kr.metrics.ProbabilisticCalibrationError()],
    )
    model.fit(np.tile(x, (40, 1)), np.tile(y, 40), batch_size=64, verbose=0)
    loss, error = model.evaluate(x, y, verbose=0, batch_size=64)
    assert loss < 0.9  # One Gaussian of the same moments: 1.42.
    assert error < 0.2
    restored = save_and_load(model)
    np.testing.assert_allclose(
        restored.evaluate(x, y, verbose=0, batch_size=64), [loss, error], rtol=1e-5
    )
    with pytest.raises(ValueError, match="components"):
        kr.layers.GaussianMixture(0)


# Ensembles


@pytest.mark.parametrize("fair", [False, True])
def test_the_ensemble_score_is_that_of_all_pairs(fair):
    y, members = normal(3, 4), normal(3, 4, 7, seed=1)
    count = 7 * 6 if fair else 49

    def pairwise(y_true, y_pred):
        gaps = ops.abs(y_pred[..., :, None] - y_pred[..., None, :])
        near = ops.mean(ops.abs(y_pred - y_true[..., None]), axis=-1)
        return near - ops.sum(gaps, axis=(-2, -1)) / (2 * count)

    class Pairwise(losses.Loss):
        def call(self, y_true, y_pred):
            return pairwise(ops.convert_to_tensor(y_true), y_pred)

    for got, expected in zip(
        evaluate_loss(losses.EnsembleCRPS(fair), y, members), evaluate_loss(Pairwise(), y, members)
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_ensembles_with_ties_of_one_and_unknown():
    y = np.zeros(2, "float32")
    equal = np.array([[1.0, 1.0, 1.0], [2.0, -1.0, 2.0]], "float32")
    values, gradient = evaluate_loss(losses.EnsembleCRPS(), y, equal)
    np.testing.assert_allclose(values, [1.0, 5 / 3 - 12 / 18], rtol=1e-6)
    np.testing.assert_allclose(gradient.sum(axis=-1), [1.0, 1 / 3], rtol=1e-5)  # As of moving all.
    one = evaluate_loss(losses.EnsembleCRPS(), y, np.array([[3.0], [-2.0]]))
    np.testing.assert_allclose(one[0], [3.0, 2.0])
    with pytest.raises(ValueError, match="at least 2"):
        losses.EnsembleCRPS(fair=True)(y, np.zeros((2, 1)))
    with pytest.raises(ValueError, match="known number"):
        losses.EnsembleCRPS()(keras.KerasTensor((None,)), keras.KerasTensor((None, None)))


def test_free_members_become_quantiles():
    y = np.linspace(0, 1, 1000).astype("float32")
    members = np.tile([5 / 8, 1 / 8, 7 / 8, 3 / 8], (1000, 1))  # In any order.
    _, gradient = evaluate_loss(losses.EnsembleCRPS(), y, members)
    np.testing.assert_allclose(gradient.mean(axis=0), 0.0, atol=1e-3)
    _, gradient = evaluate_loss(losses.EnsembleCRPS(fair=True), y, members)
    assert (
        gradient.mean(axis=0)[1] > 0.05 and gradient.mean(axis=0)[2] < -0.05
    )  # Drives them apart.


# Calibration

LEVEL = float(np.log(np.expm1(1.0)))  # Softplus of it is 1.


def with_pits(pits):
    """Targets and standard normal predictions with these probabilities."""
    quantile = np.vectorize(statistics.NormalDist().inv_cdf)
    return quantile(pits).astype("float32"), np.tile([0.0, LEVEL], (len(pits), 1)).astype("float32")


@pytest.mark.parametrize("method", ["kde", "sort", "entropy"])
def test_calibration_knows_uniform_from_other(method):
    uniform = (np.arange(200) + 0.5) / 200
    loss = losses.ProbabilisticCalibration(method)
    good = number(loss(*with_pits(uniform)))
    others = [0.25 + 0.5 * uniform, uniform**2, np.sin(0.5 * np.pi * uniform) ** 2]
    if method == "entropy":  # So few samples piled up at both ends it takes for less than uniform.
        others.pop()
    for other in others:
        assert number(loss(*with_pits(other))) > good + 0.02


@pytest.mark.parametrize("count", [2, 5, 30, 127, 128, 200])
def test_entropy_is_that_of_spacings(count):
    pits = np.random.default_rng(count).uniform(0.01, 0.99, count)
    u, m = np.sort(pits), 64 if count >= 128 else int(math.sqrt(count))
    expected = -np.mean(np.log((u[m:] - u[:-m] + 1e-5) * (count + 1) / m))
    got = number(losses.ProbabilisticCalibration("entropy")(*with_pits(pits)))
    assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_kde_tends_to_the_error():
    y, y_pred = normal(50), normal(50, 2, seed=1)
    metric = kr.metrics.ProbabilisticCalibrationError()
    metric.update_state(y, y_pred)
    loss = losses.ProbabilisticCalibration(temperature=1e-5)
    assert number(loss(y, y_pred)) == pytest.approx(number(metric.result()), abs=2e-3)


@pytest.mark.parametrize("method", ["kde", "sort", "entropy"])
def test_calibration_is_that_of_what_counts(method):
    y, y_pred = normal(6, 2), normal(6, 2, 2, seed=1)
    y[1, 0], y_pred[4, 1] = np.nan, np.nan
    weight = np.ones((6, 2), "float32")
    weight[1, 0] = weight[4, 1] = 0.0
    loss = losses.ProbabilisticCalibration(method, power=1.5, reduction="none")
    got = array(loss(y, y_pred, sample_weight=weight))
    kept = weight > 0
    expected = array(loss(y[kept], y_pred[kept]))
    np.testing.assert_allclose(got[kept], expected, rtol=1e-5)
    np.testing.assert_allclose(got[~kept], 0.0)
    for few in (0, 1):
        values, gradient = evaluate_loss(loss, np.zeros(few), np.zeros((few, 2)))
        assert values.shape == (few,) and np.isfinite(values).all() and np.isfinite(gradient).all()
    assert np.isfinite(array(loss(y, y_pred, sample_weight=np.zeros((6, 2))))).all()


def test_calibration_does_not_depend_on_the_unit():
    y, y_pred = normal(20), normal(20, 2, seed=1)
    scale = 3.0 * (np.logaddexp(y_pred[:, 1], 0.0) + 1e-6)
    moved = np.stack([3.0 * y_pred[:, 0] - 1.0, np.log(np.expm1(scale - 1e-6))], axis=-1)
    for method in ("kde", "sort", "entropy"):
        loss = losses.ProbabilisticCalibration(method)
        assert number(loss(3.0 * y - 1.0, moved)) == pytest.approx(
            number(loss(y, y_pred)), abs=1e-4
        )


@keras.saving.register_keras_serializable("tests")
def logistic_cdf(y_true, y_pred):
    return ops.sigmoid((y_true - y_pred[..., 0]) / ops.softplus(y_pred[..., 1]))


def test_other_distributions_are_saved_with_the_model():
    keras.utils.set_random_seed(0)
    calibration = losses.ProbabilisticCalibration(cdf=logistic_cdf, levels=10)
    metric = kr.metrics.ProbabilisticCalibrationError(cdf=logistic_cdf, levels=10)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = losses.WeightedSum([losses.GaussianNegativeLogLikelihood(), calibration])
    model.compile("sgd", loss, metrics=[metric])
    x, y = normal(16, 3), normal(16, seed=1)
    model.fit(x, y, verbose=0)
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(save_and_load(model).evaluate(x, y, verbose=0), expected, rtol=1e-5)


def test_distribution_functions_that_do_not_fit_are_refused():
    wide = losses.ProbabilisticCalibration(cdf=lambda y_true, y_pred: y_pred)
    with pytest.raises(ValueError, match="one probability per target"):
        wide(np.zeros(4), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="`cdf` must be a function"):
        losses.ProbabilisticCalibration(cdf="normal")
    with pytest.raises(ValueError, match="take[s]? `cdf=`"):
        losses.ProbabilisticCalibration()(np.zeros(4), np.zeros((4, 4)))
    for arguments in ({"power": 0.5}, {"levels": 0}, {"temperature": 0.0}, {"method": "ks"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            losses.ProbabilisticCalibration(**arguments)


def test_a_weighted_sum_tells_the_penalty_what_counts():
    y, y_pred = normal(4, 3), normal(4, 3, 2, seed=1)
    y_pred[1, 2] = 0.0
    masked = keras.layers.Masking(0.0)(y_pred)
    likelihood, calibration = (
        losses.GaussianNegativeLogLikelihood(),
        losses.ProbabilisticCalibration(),
    )
    total = losses.WeightedSum([likelihood, calibration], [1.0, 2.0])
    kept = np.any(y_pred != 0, axis=-1)
    expected = number(likelihood(y[kept], y_pred[kept])) + 2.0 * number(
        calibration(y[kept], y_pred[kept])
    )
    assert number(total(y, masked)) == pytest.approx(expected, rel=1e-5)
    weight = kept.astype("float32") * 12 / 11
    assert number(total(y, y_pred, sample_weight=weight)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.everywhere
def test_the_penalty_and_recalibration_repair_a_network_that_is_too_sure():
    x, y = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = (x[order] / x.std(axis=0)).astype("float32"), y[order].astype("float32")
    y = (y - y.mean()) / y.std()
    weights = [
        rng.normal(size=(10, 64)) / 4,
        np.zeros(64),
        rng.normal(size=(64, 2)) / 10,
        np.zeros(2),
    ]
    likelihood, found = losses.GaussianNegativeLogLikelihood(), []
    for strength in (0.0, 5.0):
        hidden = keras.layers.Dense(64, activation="relu")
        model = keras.Sequential([keras.Input((10,)), hidden, keras.layers.Dense(2)])
        model.set_weights(weights)
        total = losses.WeightedSum([likelihood, losses.ProbabilisticCalibration()], [1.0, strength])
        model.compile(keras.optimizers.Adam(0.01), total)
        # Sixty steps on all samples, in one epoch.
        many = np.tile(x[:200], (60, 1)), np.tile(y[:200], 60)
        model.fit(*many, batch_size=200, shuffle=False, verbose=0)
        found.append(array(model(x)))
    plain, penalized = found
    levels = (np.arange(100) + 0.5) / 100
    recalibration = kr.analysis.QuantileRecalibration("linear").fit(y[200:320], plain[200:320])
    pits = recalibration.cdf(y[320:], plain[320:])
    quantiles = recalibration.quantile(plain[320:], levels)

    def error(pits):
        return np.mean(np.abs(levels - np.mean(pits[:, None] <= levels, axis=0)))

    before, trained = (error(array(losses.gaussian_mixture_cdf(y[320:], p[320:]))) for p in found)
    assert trained < 0.8 * before and error(pits) < 0.8 * before, (before, trained, error(pits))
    scores = [number(losses.GaussianCRPS()(y[320:], p[320:])) for p in found]
    scores.append(number(losses.EnsembleCRPS()(y[320:], quantiles)))
    assert max(scores[1:]) < 1.05 * scores[0], scores
