"""Sequential max-margin: optimality conditions, and the geometry of projections."""

import numpy as np
import pytest
from sklearn.svm import SVC

from keras_regularize.analysis import margin_violation, sequential_max_margin


def separable(seed, samples=15, dim=4):
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(9).normal(size=dim)
    x = rng.normal(size=(samples, dim))
    y = np.sign(x @ direction)
    return x + 0.2 * y[:, None] * direction / np.linalg.norm(direction), y


@pytest.mark.parametrize("seed, samples, dim", [(0, 15, 4), (1, 60, 8), (2, 3, 10), (3, 200, 2)])
def test_every_step_is_the_closest_point_with_margin(seed, samples, dim):
    tasks = [separable(10 * seed + t, samples, dim) for t in range(3)]
    previous = np.zeros(dim)
    for (x, y), w in zip(tasks, sequential_max_margin(tasks)):
        rows = y[:, None] * x
        assert (rows @ w > 1 - 1e-9).all()
        tight = rows[rows @ w < 1 + 1e-7]
        # The step is a combination of tight samples with weights that are not negative.
        step = w - previous
        if np.linalg.norm(step) > 1e-12:
            from_tight = np.linalg.lstsq(tight.T, step, rcond=None)[0]
            np.testing.assert_allclose(tight.T @ from_tight, step, atol=1e-8)
            assert (from_tight > -1e-8).all()
        previous = w


def test_the_first_task_is_a_support_vector_machine():
    x, y = separable(4)
    # Scaling one feature into a constant one and centring cannot help: mirrored samples remove the intercept.
    mirrored, labels = np.concatenate([x, -x]), np.concatenate([y, -y])
    svm = SVC(kernel="linear", C=1e8, tol=1e-8).fit(mirrored, labels)
    np.testing.assert_allclose(sequential_max_margin([(x, y)])[0], svm.coef_[0], rtol=1e-3)


def test_geometry():
    first, second = separable(5), separable(6)
    path = sequential_max_margin([first, first, second])
    np.testing.assert_allclose(path[1], path[0], atol=1e-10)  # Satisfied already.
    scaled = [(1e-4 * x, y) for x, y in (first, first, second)]
    np.testing.assert_allclose(sequential_max_margin(scaled), 1e4 * path, rtol=1e-6)
    # The scale of the data may change from task to task, and the start be far away.
    tasks = [(np.array([[1e-4, 0.0]]), [1]), (np.array([[-1e4, 1e4]]), [1])]
    far = sequential_max_margin(tasks)[-1]
    np.testing.assert_allclose(far, [5e3 - 5e-5, 5e3 + 5e-5], rtol=1e-12)
    # Projections never lengthen a distance, and repeating them leads to a classifier of both.
    starts = np.random.default_rng(7).normal(size=(2, 4))
    ends = [sequential_max_margin([second], start)[0] for start in starts]
    assert np.linalg.norm(ends[0] - ends[1]) <= np.linalg.norm(starts[0] - starts[1])
    last = sequential_max_margin([first, second] * 60)[-1]
    assert max(margin_violation(last, task) for task in (first, second)) < 1e-3


def test_violation_is_that_of_the_worst_sample():
    task = (np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]), np.array([1, -1, 1]))
    assert margin_violation([0.5, 0.25], task) == pytest.approx((1 + 0.5) ** 2)
    assert margin_violation([10.0, -5.0], task) == 0.0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: sequential_max_margin([]), "at least one task"),
        (
            lambda: sequential_max_margin([([[1.0], [1.0]], [1, -1])]),
            "Task 0 is not separable",
        ),
        (lambda: sequential_max_margin([([[0.0, 0.0]], [1])]), "Task 0 is not separable"),
        (lambda: sequential_max_margin([([[1.0]], [2])]), "labels -1 or 1"),
        (lambda: sequential_max_margin([([[1.0]], [1])], [0.0, 0.0]), "same number of features"),
        (lambda: margin_violation([1.0, 2.0], ([[1.0]], [1])), "a weight per feature"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
