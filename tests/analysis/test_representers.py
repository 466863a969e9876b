"""Predictions as sums over training points: what they sum to, and what taking points away does."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from keras_regularize import analysis

RANDOM = np.random.default_rng(0)
X, W = RANDOM.normal(size=(30, 4)), np.array([1.0, -2.0, 0.5, 0.0])


def lasso(x, y, factor, loss="squared", steps=3000):
    """The minimum of the mean loss and `factor` times the absolute weights, by accelerated proximal steps."""
    rate = len(x) / np.linalg.norm(x, 2) ** 2 * (1 if loss == "squared" else 4)
    w = ahead = np.zeros(x.shape[1])
    t = 1.0
    for _ in range(steps):
        f = x @ ahead
        slope = f - y if loss == "squared" else 1 / (1 + np.exp(-f)) - y
        new = ahead - rate * x.T @ slope / len(x)
        new = np.sign(new) * np.maximum(np.abs(new) - rate * factor, 0)
        t = 1.0 if (ahead - new) @ (new - w) > 0 else t  # Past the minimum: without momentum.
        following = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead, w, t = new + (t - 1) / following * (new - w), new, following
    return w


@pytest.mark.parametrize("loss", ["squared", "logistic", "callable"])
def test_contributions_sum_to_the_predictions(loss):
    y = X @ W + RANDOM.normal(size=30) if loss == "squared" else (X @ W > 0).astype(float)
    kind = "squared" if loss == "squared" else "logistic"
    if loss == "callable":
        loss = lambda y, f: keras.ops.softplus(f) - y * f  # noqa: E731
    w = lasso(X, y, 0.05, kind)
    values = analysis.l1_representers(w, X, y, X[:3], 0.05, loss)
    np.testing.assert_allclose(values.sum(axis=0), X[:3] @ w, atol=1e-3)
    if kind == "squared":
        ridge = np.linalg.solve(X.T @ X / 30 + 0.1 * np.eye(4), X.T @ y / 30)
        values = analysis.l2_representers(ridge, X, y, X[:3], 0.05, loss)
        np.testing.assert_allclose(values.sum(axis=0), X[:3] @ ridge, atol=1e-6)
    elif loss == "logistic":
        np.testing.assert_array_equal(
            values, analysis.l1_representers(w, X, 2 * y - 1, X[:3], 0.05)
        )


def test_features_without_weight_do_not_matter():
    y = X @ W
    w = lasso(X, y, 0.3)
    assert (w == 0).any()
    other = np.where(w == 0, 100.0, X)
    np.testing.assert_array_equal(
        analysis.l1_representers(w, X, y, X, 0.3, "squared"),
        analysis.l1_representers(w, other, y, other, 0.3, "squared"),
    )


def test_sparse_matrices_and_no_weight_at_all():
    sparse = pytest.importorskip("scipy.sparse")
    y = X @ W
    w = lasso(X, y, 0.1)
    dense = analysis.l1_representers(w, X, y, X[:2], 0.1, "squared")
    got = analysis.l1_representers(
        w, sparse.csr_matrix(X), y, sparse.csr_matrix(X[:2]), 0.1, "squared"
    )
    np.testing.assert_allclose(got, dense)
    assert not analysis.l1_representers(np.zeros(4), X, y, X, 1.0, "squared").any()


def test_factors_may_be_any_of_the_same_product():
    p, q = RANDOM.normal(size=(4, 2)), RANDOM.normal(size=(3, 2))
    mix = np.array([[2.0, 1.0], [0.0, 0.5]])
    arguments = ([0, 1, 2, 3], [0, 1, 2, 0], [1.0, 0.0, 2.0, 1.0], (0, 1), 0.1)
    with pytest.warns(UserWarning, match="not trained to the minimum"):
        one = analysis.factorization_representers(p, q, *arguments)
        two = analysis.factorization_representers(p @ mix, q @ np.linalg.inv(mix).T, *arguments)
    np.testing.assert_allclose(one.item_based, two.item_based, atol=1e-9)
    np.testing.assert_allclose(one.user_based, two.user_based, atol=1e-9)
    assert one.prediction == pytest.approx(p[0] @ q[1])


@pytest.mark.parametrize("users, items", [(1, 3), (3, 1), (2, 3)])
def test_a_rank_above_the_number_of_users_or_items(users, items):
    """Fully observed, the minimum has the singular values of the ratings less the factor."""
    rng = np.random.default_rng(3)
    ratings, n = rng.normal(size=(users, items)), users * items
    u, s, vt = np.linalg.svd(ratings, full_matrices=False)
    best = (u * np.maximum(s - 0.1 * n, 0)) @ vt
    mix = rng.normal(size=(items, 4))
    p, q = best @ np.linalg.pinv(mix).T, mix
    ids = np.indices(ratings.shape).reshape(2, -1)
    found = analysis.factorization_representers(p, q, *ids, ratings.ravel(), (0, 0), 0.1)
    assert found.prediction == pytest.approx(best[0, 0], abs=1e-10)
    assert found.item_based.sum() == pytest.approx(best[0, 0], abs=1e-10)
    assert found.user_based.sum() == pytest.approx(best[0, 0], abs=1e-10)


@pytest.mark.rotating
def test_without_its_supporters_a_prediction_falls_more_than_without_others():
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x_train, y_train, x_test = x[:400], y[:400], x[400:]
    w = lasso(x_train, y_train, 0.01, "logistic")
    values = analysis.l1_representers(w, x_train, y_train, x_test, 0.01)
    chosen = np.argsort(x_test @ w)[-20:]  # The surest ones.
    falls = {"top": [], "random": []}
    for j in chosen[::4]:
        removed = {
            "top": np.argsort(values[:, j])[-20:],
            "random": np.random.default_rng(int(j)).choice(400, 20, replace=False),
        }
        for name, rows in removed.items():
            kept = np.delete(np.arange(400), rows)
            again = lasso(x_train[kept], y_train[kept], 0.01 * 400 / 380, "logistic", 500)
            falls[name].append(x_test[j] @ (w - again))
    assert np.mean(falls["top"]) > np.mean(falls["random"]) + 0.3


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: analysis.l1_representers(W, X, np.ones(3), X, 0.1), "Expected coefficients"),
        (
            lambda: analysis.l1_representers(W, X, np.full(30, 3.0), X, 0.1),
            "Labels of the logistic",
        ),
        (lambda: analysis.l1_representers(W, X, X[:, 0], X, 0.1, "hinge"), "`loss` must be"),
        (
            lambda: analysis.l2_representers(W, X, X[:, 0], X, 0.0),
            "`factor` must be a number above 0",
        ),
        (
            lambda: analysis.factorization_representers(X, X, [0], [40], [1.0], (0, 0), 0.1),
            "Ids of items must be from 0 to 29",
        ),
        (
            lambda: analysis.factorization_representers(X, X[:, :2], [0], [0], [1.0], (0, 0), 0.1),
            "as many columns",
        ),
        (
            lambda: analysis.factorization_representers(X, X, [0.0], [0], [1.0], (0, 0), 0.1),
            "must be integers",
        ),
        (
            lambda: analysis.factorization_representers(X, X, [0], [0], [1.0], (0.7, 0), 0.1),
            "must be integers",
        ),
        (
            lambda: analysis.l1_representers(
                W, X, X[:, 0], X, 0.1, lambda y, f: keras.ops.mean((y - f) ** 2)
            ),
            "a value for each of 30 samples",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
