import math

import numpy as np
import pytest

from keras_regularize.losses import Rejection
from keras_regularize.testing._common import to_numpy, values_and_gradients


def evaluate(loss, y_true, y_pred, dtype="float32"):
    run = values_and_gradients(lambda r: loss.call(y_true, r))
    return tuple(map(to_numpy, run(np.asarray(y_pred, dtype))))


@pytest.mark.parametrize("cost, alpha, beta", [(0.2, 2.0, None), (0.05, 4.0, 3.0)])
def test_equals_the_formula_and_bounds_the_cost(cost, alpha, beta):
    r = np.linspace(-2, 3, 11)
    slope = beta or alpha / (2 * cost) * (
        cost * math.exp(alpha / 2) + (1 - cost) * math.exp(-alpha / 2)
    )
    for right in (0, 1):
        expected = [
            math.exp(alpha / 2 * (s - (2 * right - 1))) + cost * math.exp(-slope * s) for s in r
        ]
        for scores in (r, r[:, None]):
            value, _ = evaluate(Rejection(cost, alpha, beta), np.full(11, right), scores)
            np.testing.assert_allclose(value, expected, rtol=1e-4)
        assert np.all(value >= np.where(r > 0, 1 - right, cost))


@pytest.mark.parametrize("cost", [0.05, 0.3])
def test_accepts_where_the_predictor_is_wrong_less_often_than_a_rejection_costs(cost):
    # The slope at zero of the expected loss decides on which side the minimiser of a convex loss lies.
    _, slope = evaluate(Rejection(cost), [0, 1], [0.0, 0.0])
    for wrong in (0.5 * cost, 0.9 * cost, 1.1 * cost, 2 * cost):
        expected = wrong * slope[0] + (1 - wrong) * slope[1]
        assert (expected < 0) == (wrong < cost)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_far_scores_keep_a_finite_slope_of_the_right_sign(dtype):
    value, slope = evaluate(Rejection(), [0, 1, 0, 1], [-1e4, -1e4, 1e4, 1e4], dtype)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))
    assert np.all(slope[:2] < -1e3) and np.all(slope[2:] > 1e3)


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(cost=0), "`cost` must be a number above 0 and below 1. Received: cost=0"),
        (dict(cost=2), "`cost` must be a number above 0 and below 1. Received: cost=2"),
        (dict(alpha=0), "`alpha` must be a number above 0. Received: alpha=0"),
        (dict(beta=-1), "`beta` must be a number above 0 or None. Received: beta=-1"),
    ],
)
def test_bad_arguments_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Rejection(**config)
