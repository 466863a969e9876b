import numpy as np
import pytest

from keras_regularize.generative import black_box_square_loss
from keras_regularize.metrics import BlackBoxSquare

RNG = np.random.default_rng(0)
DATA, MODEL = RNG.integers(0, 4, (2, 12))


def score(data, model, *weights, categories=4):
    metric = BlackBoxSquare(categories)
    metric.update_state(data, model, *weights)
    return float(metric.result())


@pytest.mark.parametrize("weights", [np.ones(12), RNG.random(12)])
def test_equals_a_loop_over_pairs(weights):
    repeats = pairs = matches = comparisons = 0.0
    for i in range(12):
        for j in range(12):
            product = weights[i] * weights[j]
            matches += product * (MODEL[i] == DATA[j])
            comparisons += product
            if i != j:
                repeats += product * (MODEL[i] == MODEL[j])
                pairs += product
    expected = repeats / pairs - 2 * matches / comparisons
    assert score(DATA, MODEL, weights) == pytest.approx(expected, rel=1e-5)


def test_equals_the_function_whatever_the_shapes_and_numbers_of_draws():
    expected = black_box_square_loss(MODEL, DATA[:5])
    assert score(DATA[:5], MODEL) == pytest.approx(expected, rel=1e-6)
    assert score(DATA[:5, None], MODEL.reshape(2, 6), 2.0) == pytest.approx(expected, rel=1e-6)


def test_ids_outside_and_single_draws_are_left_out():
    outside = np.concatenate([MODEL, [-1, 4, 9]])
    assert score(DATA, outside) == pytest.approx(score(DATA, MODEL))
    assert score([1], [1]) == -2.0
    assert score([1], [2]) == score([], []) == 0.0


def test_errors():
    with pytest.raises(ValueError, match="`num_categories` must be an integer of at least 1"):
        BlackBoxSquare(0)
