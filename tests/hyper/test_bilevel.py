"""Hypergradients and the searches that follow them."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 24, 3)).astype("float32"), RNG.normal(size=(2, 24)).astype("float32")


def training(w, a):
    x, y = ops.cast(X[0], w.dtype), ops.cast(Y[0], w.dtype)
    return ops.sum((ops.matmul(x, w) - y) ** 2) + ops.sum(ops.exp(a) * w * w)


def validation(w, a):
    x, y = ops.cast(X[1], w.dtype), ops.cast(Y[1], w.dtype)
    return ops.sum((ops.matmul(x, w) - y) ** 2) + 0.1 * ops.sum(a * a)


def minimizer(a):
    x = X[0].astype("float64")
    return np.linalg.solve(x.T @ x + np.diag(np.exp(a) * np.ones(3)), x.T @ Y[0])


def outer_at(a):
    return ((X[1] @ minimizer(a) - Y[1]) ** 2).sum() + 0.1 * (np.asarray(a) ** 2).sum()


A = np.array([0.5, -1.0, 1.5])
SLOPES = [(outer_at(A + 1e-5 * row) - outer_at(A - 1e-5 * row)) / 2e-5 for row in np.eye(3)]


@pytest.mark.everywhere
@pytest.mark.parametrize("solver", ["cg", "exact", "neumann"])
def test_the_hypergradient_is_the_slope_of_the_validation_loss_at_trained_weights(solver):
    gradient = kr.hyper.hypergradient(
        training, validation, minimizer(A), A, solver, tolerance=1e-6, terms=200
    )
    np.testing.assert_allclose(gradient, SLOPES, rtol=1e-3)


def test_structures_are_kept_and_what_was_found_is_told():
    def inner(w, a):
        return training(ops.concatenate([w["first"], w["others"]]), a[0])

    def outer(w, a):
        return validation(ops.concatenate([w["first"], w["others"]]), a[0])

    w = minimizer(A)
    weights = {"first": w[:1], "others": keras.Variable(w[1:])}
    (gradient,), info = kr.hyper.hypergradient(inner, outer, weights, [A], return_info=True)
    np.testing.assert_allclose(gradient, SLOPES, rtol=1e-3)
    assert info.converged and info.iterations <= 4 and info.residual < 1e-3
    again = kr.hyper.hypergradient(
        inner, outer, weights, [A], initial=info.solution, return_info=True
    )[1]
    assert again.iterations <= 1


def test_one_step_and_damping():
    w = minimizer(A)
    x = X[0].astype("float64")
    hessian = 2 * (x.T @ x + np.diag(np.exp(A)))
    slope = 2 * X[1].T @ (X[1] @ w - Y[1])
    mixed = np.diag(2 * np.exp(A) * w)
    one = kr.hyper.hypergradient(training, validation, w, A, "one_step", step_size=0.01)
    np.testing.assert_allclose(one, 0.2 * A - mixed @ (0.01 * slope), rtol=1e-3)
    damped = kr.hyper.hypergradient(training, validation, w, A, damping=5.0)
    expected = 0.2 * A - mixed @ np.linalg.solve(hessian + 5 * np.eye(3), slope)
    np.testing.assert_allclose(damped, expected, rtol=1e-3)


def test_conjugate_gradients_end_at_negative_curvature():
    def saddle(w, a):
        return w[0] ** 2 - w[1] ** 2 + a[0] * w[0]

    gradient, info = kr.hyper.hypergradient(
        saddle, lambda w, a: w[0] + 3.0 * w[1], np.zeros(2), np.zeros(1), return_info=True
    )
    assert not info.converged and np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="no positive curvature"):
        kr.hyper.hypergradient(
            lambda w, a: -ops.sum(w * w) + a[0] * w[0],
            lambda w, a: w[0],
            np.ones(2),
            np.zeros(1),
            "neumann",
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"solver": "lu"}, "`solver`"),
        ({"inner": 3}, "`inner` must be a function"),
        ({"inner": lambda w, a: w}, "scalar"),
        ({"weights": []}, "at least one weight"),
        ({"initial": np.zeros(2)}, "`initial` must be a vector of 3"),
        ({"damping": -1.0}, "`damping`"),
    ],
)
def test_errors_of_the_hypergradient(arguments, message):
    given = {"inner": training, "outer": validation, "weights": np.zeros(3), "hyperparameters": A}
    with pytest.raises(Exception, match=message):
        kr.hyper.hypergradient(**{**given, **arguments})


def test_the_bound_grows_with_each_inaccuracy_and_is_none_without():
    constants = (2.0, 0.5, 1.5, 3.0, 0.4, 0.2)
    bound = kr.hyper.hypergradient_error_bound
    assert bound(0.0, 0.0, *constants) == 0
    assert bound(0.1, 0.05, *constants) < min(
        bound(0.2, 0.05, *constants), bound(0.1, 0.1, *constants)
    )
    with pytest.raises(ValueError, match="`strong_convexity`"):
        bound(0.1, 0.1, 1.0, 0.0, 1.0, 1.0)


# Searches

GRID = np.linspace(-6, 6, 241)
BEST = GRID[np.argmin([outer_at(np.full(1, a)) for a in GRID])]


def test_steps_that_are_too_long_become_shorter():
    rng = np.random.default_rng(10)
    a2, a3, a1 = (rng.normal(size=s).astype("float32") for s in [(12, 4), (12, 3), (9, 4)])
    b2, b1 = (rng.normal(size=n).astype("float32") for n in (12, 9))
    inverse = np.linalg.solve(a2.T @ a2, a2.T)
    slope, rest = -a1 @ inverse @ a3, b1 - a1 @ inverse @ b2
    best = 0.5 * np.sum((slope @ np.linalg.lstsq(slope, rest)[0] - rest) ** 2)
    a2, a3, a1, b2, b1 = map(ops.convert_to_tensor, (a2, a3, a1, b2, b1))
    search = kr.hyper.HOAG(
        lambda w, a: ops.sum((ops.matmul(a2, w) + ops.matmul(a3, a) - b2) ** 2),
        lambda w, a: 0.5 * ops.sum((ops.matmul(a1, w) - b1) ** 2),
        lower=-50.0,
        upper=50.0,
        max_iterations=200,
    )
    found = search.minimize(np.zeros(4, "float32"), np.zeros(3, "float32"))
    assert found.converged and found.outer_loss < 1.02 * best
    assert found.history["outer_loss"][0] > 1.2 * best


@pytest.mark.everywhere
@pytest.mark.parametrize("search", [kr.hyper.HOAG, kr.hyper.MAID])
def test_a_search_finds_the_least_validation_loss_from_both_sides(search):
    for start in (2.0, 5.0) if search is kr.hyper.HOAG else (3.0,):
        found = search(training, validation).minimize(np.zeros(3), np.full(1, start))
        assert found.outer_loss == pytest.approx(outer_at(np.full(1, BEST)), rel=1e-3)
        np.testing.assert_allclose(found.hyperparameters, BEST, atol=0.1)
        np.testing.assert_allclose(found.weights, minimizer(found.hyperparameters), atol=2e-2)
        lengths = {len(values) for values in found.history.values()}
        assert len(lengths) == 1 and found.history["inner_iterations"][-1] > 0


@pytest.mark.parametrize("decrease", ["quadratic", "cubic", "exact"])
def test_accuracies_of_hoag(decrease):
    search = kr.hyper.HOAG(training, validation, tolerance_decrease=decrease)
    found = search.minimize(np.zeros(3), np.zeros(1))
    assert found.converged
    np.testing.assert_allclose(found.hyperparameters, BEST, atol=0.1)


def test_hoag_stays_within_bounds_and_calls_back():
    seen = []
    search = kr.hyper.HOAG(training, validation, lower=BEST + 1.0, max_iterations=30)
    found = search.minimize(
        np.zeros(3),
        np.full(1, 4.0),
        callback=lambda i, entry: seen.append((i, entry["outer_loss"])),
    )
    np.testing.assert_allclose(found.hyperparameters, BEST + 1.0, atol=1e-6)
    assert [i for i, _ in seen] == list(range(len(found.history["outer_loss"])))


def test_an_inner_solver_of_ones_own():
    def newton(function, w, tolerance):
        rows = np.stack([function(row)[1] - function(np.zeros(3))[1] for row in np.eye(3)], axis=1)
        return w - np.linalg.solve(rows, function(w)[1])

    found = kr.hyper.HOAG(training, validation, newton).minimize(np.zeros(3), np.zeros(1))
    np.testing.assert_allclose(found.hyperparameters, BEST, atol=0.1)


@pytest.mark.parametrize("epsilon", [1e-4, 1.0])
def test_maid_does_not_depend_on_its_first_accuracy_and_goes_downhill_for_certain(epsilon):
    search = kr.hyper.MAID(training, validation, epsilon=epsilon, delta=epsilon)
    found = search.minimize(np.zeros(3), np.full(1, 3.0))
    np.testing.assert_allclose(found.hyperparameters, BEST, atol=0.1)
    exact = [outer_at(a) for a in found.history["hyperparameters"]]
    assert np.all(np.diff(exact) <= 1e-4)


def test_maid_needs_strong_convexity():
    flat = lambda w, a: ops.sum(a) * w[0] ** 2  # noqa: E731
    with pytest.raises(ValueError, match="strongly convex"):
        kr.hyper.MAID(flat, validation).minimize(np.zeros(3), np.ones(1))


@pytest.mark.parametrize(
    "search, arguments",
    [
        (kr.hyper.HOAG, {"tolerance": 0.0}),
        (kr.hyper.HOAG, {"tolerance_decrease": "linear"}),
        (kr.hyper.HOAG, {"inner_solver": "adam"}),
        (kr.hyper.HOAG, {"lower": 2.0, "upper": 1.0}),
        (kr.hyper.MAID, {"eta": 1.0}),
        (kr.hyper.MAID, {"rho": 0.0}),
        (kr.hyper.MAID, {"strong_convexity": -1.0}),
    ],
)
def test_errors_of_searches(search, arguments):
    with pytest.raises(ValueError, match=f"`{next(reversed(arguments))}`"):
        search(training, validation, **arguments)


# Models


def regression(seed=0, features=12, samples=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * samples, features)).astype("float32")
    y = x[:, :2].sum(-1, keepdims=True) + rng.normal(size=(2 * samples, 1)).astype("float32")
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model, x[:samples], y[:samples], (x[samples:], y[samples:])


def ridge_loss(factor, x, y, validation_data):
    """Validation loss of ridge regression with an intercept that is not penalized."""
    x1 = np.hstack([x, np.ones((len(x), 1))]).astype("float64")
    penalty = np.diag([factor] * x.shape[1] + [0.0])
    w = np.linalg.solve(x1.T @ x1 / len(x) + penalty, x1.T @ y / len(x))
    xv = np.hstack([validation_data[0], np.ones((len(validation_data[0]), 1))])
    return float(((xv @ w - validation_data[1]) ** 2).mean())


@pytest.mark.everywhere
def test_tune_l2_finds_the_best_of_a_grid_of_ridge_regressions():
    model, x, y, data = regression()
    before = [to_numpy(v).copy() for v in model.variables]
    found = kr.hyper.tune_l2(model, x, y, data)
    grid = [ridge_loss(factor, x, y, data) for factor in np.logspace(-5, 2, 71)]
    assert found.validation_loss == pytest.approx(min(grid), rel=2e-3)
    ((path, factor),) = found.l2.items()
    assert path.endswith("kernel")
    assert ridge_loss(factor, x, y, data) == pytest.approx(found.validation_loss, rel=2e-3)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(to_numpy(variable), value)


def test_tune_l2_per_layer_and_where():
    model, x, y, data = regression()
    inputs = keras.Input((12,))
    parts = [
        keras.layers.Dense(1, name="a")(inputs[:, :2]),
        keras.layers.Dense(1, name="b")(inputs[:, 2:]),
    ]
    outputs = keras.layers.Add()(parts)
    model = keras.Model(inputs, outputs)
    found = kr.hyper.tune_l2(
        model, x, y, data, per_layer=True, loss=keras.losses.MeanSquaredError()
    )
    a, b = found.l2["a/kernel"], found.l2["b/kernel"]
    assert b > 10 * a  # What does not matter is penalized away.
    assert found.validation_loss < min(ridge_loss(f, x, y, data) for f in np.logspace(-5, 2, 71))
    assert list(
        kr.hyper.tune_l2(model, x, y, data, loss="mse", where=["b"], max_iterations=1).l2
    ) == [
        "b/kernel",
        "b/bias",
    ]


@pytest.mark.parametrize(
    "mask_zero, weight", [(True, None), (False, np.array([[1.0] * 4, [3.0] * 4]))]
)
def test_objective_is_the_loss_of_keras_with_masks_and_weights(mask_zero, weight):
    inputs = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(5, 3, mask_zero=mask_zero)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(embedded))
    ids = np.array([[1, 2, 0, 0], [3, 4, 1, 0]])
    y = np.array([[0, 1, 0, 0], [1, 1, 0, 0]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    value = kr.hyper.objective(model, loss, ids, y, weight)(
        [v.value for v in model.trainable_variables]
    )
    expected = model.evaluate(ids, y, sample_weight=weight, verbose=0)
    assert float(to_numpy(value)) == pytest.approx(expected, rel=1e-4)


def test_l2_penalty_with_one_factor_several_or_groups():
    w = [np.ones((3, 2), "float32"), np.full(2, 2.0, "float32")]
    penalty = kr.hyper.l2_penalty
    assert float(penalty(w, np.zeros(1))) == pytest.approx(7)
    assert float(penalty(w, np.log([1.0, 2.0]))) == pytest.approx(3 + 8)
    assert float(penalty(w, np.log([2.0]), groups=[-1, 0])) == pytest.approx(8)
    assert float(penalty(w[1], np.log([1.0, 3.0]))) == pytest.approx(8)
    for factors, groups in ((np.zeros(3), None), (np.zeros(1), [0]), (np.zeros(1), [0, 1])):
        with pytest.raises(ValueError, match="Received"):
            penalty(w, factors, groups)


def test_tune_l2_weighs_the_losses_of_several_outputs():
    x, y, z = np.random.default_rng(0).normal(size=(3, 12, 2)).astype("float32")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    model.compile("sgd", ["mse", "mae"], loss_weights=[0.3, 2.0])
    found = kr.hyper.tune_l2(model, x, [y, z], (x, [y, z]), max_iterations=1)
    a, b = (x @ found.weights[i] + found.weights[i + 1] for i in (0, 2))
    expected = 0.3 * np.mean((a - y) ** 2) + 2.0 * np.mean(np.abs(b - z))
    assert found.validation_loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.everywhere
def test_labels_may_be_tensors_of_double_precision():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    y = keras.ops.convert_to_tensor(np.arange(3.0)[:, None])
    value = kr.hyper.objective(model, "mse", np.zeros((3, 2)), y)([np.zeros((2, 1), "float32")])
    assert float(value) == pytest.approx(5 / 3)


def test_errors_of_models():
    model, x, y, data = regression()
    plain = keras.Sequential([keras.Input((12,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="not compiled"):
        kr.hyper.tune_l2(plain, x, y, data)
    with pytest.raises(ValueError, match="`validation_data`"):
        kr.hyper.tune_l2(model, x, y, None)
    with pytest.raises(ValueError, match="same number of samples"):
        kr.hyper.tune_l2(model, x, y[:-1], data)
    with pytest.raises(ValueError, match="finite gradient at the start"):
        kr.hyper.tune_l2(model, x * np.nan, y, data)
    with pytest.raises(ValueError, match="No weight is penalized"):
        kr.hyper.tune_l2(model, x, y, data, where=["nothing"])
    with pytest.raises(ValueError, match="not built"):
        kr.hyper.objective(keras.Sequential([keras.layers.Dense(1)]), "mse", x, y)


@pytest.mark.rotating
def test_logistic_regression_beats_a_grid_with_fewer_trainings():
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    x, y = load_breast_cancer(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    first, second = slice(0, 280), slice(280, 560)
    grid = []
    for penalty in np.logspace(-4, 4, 25):
        fitted = LogisticRegression(C=1 / penalty, max_iter=5000).fit(x[first], y[first])
        grid.append(log_loss(y[second], fitted.predict_proba(x[second])))
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    found = kr.hyper.tune_l2(
        model, x[first], y[first, None], (x[second], y[second, None]), loss=loss
    )
    assert found.validation_loss < min(grid) * 1.01
    # A training from the start takes some 30 gradients.
    assert found.history["inner_iterations"][-1] < 25 * 30
