import numpy as np
import pytest

from keras_regularize.metrics import Coverage, SelectiveAccuracy

RIGHT = np.array([1, 0, 1, 0, 1, 0])
SCORES = np.array([0.3, 0.2, 1.0, -0.5, -3.0, 0.0])


@pytest.mark.parametrize("threshold", [0.0, 0.25])
@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.0])])
def test_equal_a_loop(threshold, weights):
    w = np.ones(6) if weights is None else weights
    accepted = sum(a for a, r in zip(w, SCORES) if r > threshold)
    right = sum(a for a, r, y in zip(w, SCORES, RIGHT) if r > threshold and y)
    for metric, expected in (
        (Coverage(threshold), accepted / sum(w)),
        (SelectiveAccuracy(threshold), right / accepted),
    ):
        metric.update_state(RIGHT, SCORES[:, None], None if weights is None else w)
        assert float(metric.result()) == pytest.approx(expected)
        metric.reset_state()
        assert float(metric.result()) == 0


def test_nothing_accepted_has_accuracy_zero():
    metric = SelectiveAccuracy(5.0)
    metric.update_state(RIGHT, SCORES)
    assert float(metric.result()) == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`threshold` must be a number. Received: threshold='a'"):
        Coverage("a")
    with pytest.raises(ValueError, match="Expected targets and predictions of equal shapes"):
        Coverage().update_state(np.zeros(3), np.zeros((4, 1)))
