"""Transport of mass that keeps classes together."""

import numpy as np
import pytest
from keras import ops
from scipy.optimize import linprog

import keras_regularize as kr
from keras_regularize.testing._common import fused, to_numpy


def problem(n=5, m=4, seed=0):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(size=(n, m))
    a, b = rng.dirichlet(np.full(n, 9.0)), rng.dirichlet(np.full(m, 9.0))
    rows, columns = rng.uniform(size=(n, n)), rng.uniform(size=(m, m))
    given = (cost, a, b, rows + rows.T, columns + columns.T)
    return tuple(array.astype("float32") for array in given)


def transport(*given, **options):
    solver = kr.inverse.sum_of_norms_transport
    return to_numpy(
        fused(lambda c: solver(c, *given[1:], **{"iterations": 600, **options}))(given[0])
    )


def objective(plan, cost, rows, columns, factor):
    penalty = kr.inverse.sum_of_norms_penalty(plan, rows, columns)
    return float(np.sum(cost * plan) + factor * to_numpy(penalty))


def test_plans_are_feasible_and_least():
    cost, a, b, rows, columns = problem()
    plan = transport(cost, a, b, rows, columns, factor=0.1)
    np.testing.assert_allclose(plan.sum(axis=1), a, atol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), b, atol=1e-5)
    assert plan.min() >= 0
    least = objective(plan, cost, rows, columns, 0.1)
    rng = np.random.default_rng(1)
    for _ in range(10):  # Other plans between this one and an extreme one.
        other = to_numpy(kr.inverse.sinkhorn(rng.uniform(size=cost.shape), a, b, 0.05, 50))
        mixed = (0.9 * plan + 0.1 * other).astype("float32")
        assert objective(mixed, cost, rows, columns, 0.1) > least - 1e-5


def test_without_factor_it_is_the_linear_program():
    cost, a, b, rows, columns = problem(6, 6)
    plan = transport(cost, a, b, rows, columns, factor=0.0)
    sums = np.concatenate([np.kron(np.eye(6), np.ones(6)), np.kron(np.ones(6), np.eye(6))])
    best = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=np.concatenate([a, b])[:-1])
    np.testing.assert_allclose(np.sum(cost * plan), best.fun, rtol=2e-3)


def test_a_large_factor_makes_all_rows_equal():
    cost, *_ = problem(4, 4)
    ones, mass = np.ones((4, 4), "float32"), np.full(4, 0.25, "float32")
    plan = transport(cost, mass, mass, ones, ones, factor=100.0, iterations=500)
    np.testing.assert_allclose(plan, 1 / 16, atol=1e-4)
    np.testing.assert_allclose(kr.inverse.sum_of_norms_penalty(plan, ones, ones), 0, atol=1e-2)


def test_the_order_of_points_does_not_matter():
    cost, a, b, rows, columns = problem()
    turn = np.array([2, 0, 4, 1, 3])
    plan = transport(cost, a, b, rows, columns, factor=0.1)
    turned = transport(cost[turn], a[turn], b, rows[np.ix_(turn, turn)], columns, factor=0.1)
    np.testing.assert_allclose(turned, plan[turn], atol=1e-4)


def test_the_proximal_map_is_the_minimum():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)).astype("float32")
    new = to_numpy(kr.inverse.pairwise_fusion_prox(a, b, 0.3))

    def value(x, y):
        squares = np.sum((x - a) ** 2) + np.sum((y - b) ** 2)
        return 0.5 * squares + 0.3 * np.linalg.norm(x - y)

    for _ in range(50):
        moved = new + 0.05 * rng.normal(size=new.shape)
        assert value(*moved) > value(*new)
    np.testing.assert_array_equal(kr.inverse.pairwise_fusion_prox(a, a, 0.3), [a, a])


def test_equal_rows_have_no_gradient():
    plan = ops.ones((3, 2))
    ones = np.ones((3, 3), "float32")

    def penalty(x):
        return kr.inverse.sum_of_norms_penalty(x, ones, np.ones((2, 2), "float32"))

    np.testing.assert_array_equal(to_numpy(kr.autodiff.grad(penalty)(plan)), 0.0)


def test_sinkhorn_against_the_linear_program_and_in_plain_numbers():
    cost, a, b, *_ = problem()
    kernel, u = np.exp(-cost / 0.5), np.ones(5)
    for _ in range(300):
        v = b / (kernel.T @ u)
        u = a / (kernel @ v)
    expected = u[:, None] * kernel * v
    np.testing.assert_allclose(kr.inverse.sinkhorn(cost, a, b, 0.5), expected, atol=1e-5)
    sharp = to_numpy(kr.inverse.sinkhorn(cost, a, b, 1e-3, iterations=500))
    plan = transport(cost, a, b, np.zeros((5, 5)), np.zeros((4, 4)), factor=0.0)
    assert np.sum(cost * sharp) < np.sum(cost * plan) + 5e-3 and np.isfinite(sharp).all()


@pytest.mark.rotating
def test_classes_stay_together():
    """Two long blobs, turned so far that plain transport tears them apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 2
    centers = np.array([[-2.0, 0.0], [2.0, 0.0]])
    turn = np.deg2rad(45)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    source = centers[labels] + rng.normal(size=(30, 2)) * [0.5, 1.5]
    target = (centers[labels] + rng.normal(size=(30, 2)) * [0.5, 1.5]) @ rotation.T
    right = {}
    for factor in (0.0, 10.0):
        found = kr.inverse.ClassTransport(factor, 1.0, iterations=200).fit(source, labels, target)
        same = labels[:, None] == labels
        right[factor] = np.sum(found.plan * same)
    assert right[10.0] > right[0.0] + 0.1, right
    moved = found.transform(source)
    expected = found.plan @ target / found.plan.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    near = found.transform(source[:3] + 1e-3)
    np.testing.assert_allclose(near, moved[:3] + 1e-3, atol=1e-4)


@pytest.mark.once
def test_errors():
    cost, a, b, rows, columns = problem()
    with pytest.raises(ValueError, match="expected marginals"):
        kr.inverse.sinkhorn(cost, b, a, 0.1)
    with pytest.raises(ValueError, match="weights of pairs"):
        kr.inverse.sum_of_norms_transport(cost, a, b, columns, rows)
    for solve, options in (
        (kr.inverse.sinkhorn, {"epsilon": 0.1}),
        (kr.inverse.sum_of_norms_transport, {"row_weights": rows, "column_weights": columns}),
    ):
        with pytest.raises(ValueError, match="the same sum"):
            solve(cost, 2 * a, b, **options)
        with pytest.raises(ValueError, match="`row_marginal` must be at least 0"):
            solve(
                cost,
                a - 2 * a.mean() * (np.arange(len(a)) == 0) + 2 * a.mean() / len(a),
                b,
                **options,
            )
    with pytest.raises(ValueError, match="`row_weights` must be at least 0"):
        kr.inverse.sum_of_norms_penalty(cost, -np.ones_like(rows), columns)
    with pytest.raises(ValueError, match="`column_weights` must be symmetric"):
        kr.inverse.sum_of_norms_penalty(cost, rows, np.triu(np.ones_like(columns)))
    with pytest.raises(ValueError, match="of one shape"):
        kr.inverse.pairwise_fusion_prox(np.ones(2), np.ones(3), 0.1)
    with pytest.raises(ValueError, match="needs a `fit`"):
        kr.inverse.ClassTransport().transform(np.ones((2, 2)))
    with pytest.raises(ValueError, match="dtype=complex128"):
        kr.inverse.ClassTransport().fit(1j * np.ones((2, 2)), np.ones(2), np.ones((4, 2)))
    with pytest.raises(ValueError, match="Expected source"):
        kr.inverse.ClassTransport().fit(np.ones((3, 2)), np.ones(2), np.ones((4, 2)))
