"""The complexity of linear features in contrastive learning."""

import numpy as np
import pytest

from keras_regularize.analysis import contrastive_rademacher

X, PLUS, MINUS = np.random.default_rng(0).normal(size=(3, 12, 3))


def test_the_supremum_is_that_of_a_search():
    """Over features of one row, of which the best is known to be one, in a fine grid of directions."""
    x, plus, minus = X[:, :2], PLUS[:, :2], MINUS[:, :2]
    got = contrastive_rademacher(x, plus, minus, 2.0, trials=3, seed=1)
    angles = np.linspace(0, np.pi, 2000)
    rows = 2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    compared = (x @ rows.T) * ((plus - minus) @ rows.T)  # (n, directions)
    generator, values = np.random.default_rng(1), []
    for _ in range(3):
        signs = generator.choice([-1.0, 1.0], size=(12, 1))
        values.append(max(0.0, np.mean(signs * compared, axis=0).max()))
    assert got.estimate == pytest.approx(np.mean(values), rel=1e-4)
    squares = np.sum(x**2, axis=1) * np.sum((plus - minus) ** 2, axis=1)
    assert got.bound == pytest.approx(4 / 12 * np.sqrt(squares.sum()))


def test_bound_radius_and_several_negatives():
    one = contrastive_rademacher(X, PLUS, MINUS, 1.0, trials=200, seed=0)
    assert 0 < one.estimate < one.bound
    assert contrastive_rademacher(X, PLUS, MINUS, 3.0, 200, 0).estimate == pytest.approx(
        9 * one.estimate
    )
    several = np.stack([MINUS, MINUS], axis=1)
    assert contrastive_rademacher(X, PLUS, several, 1.0).bound == pytest.approx(
        one.bound / np.sqrt(2)
    )
    assert contrastive_rademacher(X, PLUS, MINUS, 0.0).estimate == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((X, PLUS, MINUS, -1.0), "`radius`"),
        ((X, PLUS, MINUS, 1.0, 0), "`trials`"),
        ((X, PLUS[:5], MINUS, 1.0), "Expected anchors"),
        ((X, PLUS, MINUS[:, :2], 1.0), "Expected anchors"),
        ((X[0], PLUS[0], MINUS[0], 1.0), "Expected anchors"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        contrastive_rademacher(*arguments)
