"""layers.ShakeDrop: one factor forwards, another backwards, and their mean at inference."""

import numpy as np
import pytest
from keras import ops

from keras_regularize.layers import ShakeDrop
from keras_regularize.testing._common import values_and_gradients
from tests.helpers import array, normal


@pytest.mark.everywhere
@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 1, 1)], ids=["element", "sample"])
def test_value_and_gradient_of_given_draws(gate, shape):
    x, alpha, beta = normal(4, 3, 2), normal(*shape, seed=1), normal(*shape, seed=2)
    given = [ops.convert_to_tensor(a) for a in (np.bool_(gate), alpha, beta)]
    run = values_and_gradients(lambda x: ShakeDrop()._shaken(x, *given))
    value, gradient = map(array, run(x))
    for i in np.ndindex(x.shape):
        j = tuple(min(a, size - 1) for a, size in zip(i, shape))
        a, b = alpha[j], beta[j]
        assert value[i] == pytest.approx((gate + a - gate * a) * x[i], rel=1e-5, abs=1e-6)
        assert gradient[i] == pytest.approx(gate + b - gate * b, rel=1e-5, abs=1e-6)


def draw(layer, x, times):
    return np.stack([array(layer(x, training=True)) for _ in range(times)])


def test_draws_are_those_of_the_formula():
    x = np.ones((3, 50), "float32")
    outs = draw(ShakeDrop((-1.0, 0.5), survival_probability=0.3, seed=0), x, 150)
    is_open = (outs == 1).all(axis=(1, 2))  # One gate for the batch.
    assert abs(is_open.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 150)
    closed = outs[~is_open]
    assert closed.min() >= -1 and closed.max() <= 0.5
    # Uniform, to 5 standard errors.
    assert abs(closed.mean() + 0.25) < 5 * 1.5 / np.sqrt(12 * closed.size)
    assert abs(closed.var() - 1.5**2 / 12) < 0.01


def test_the_output_at_inference_is_the_mean_in_training():
    x = normal(2000)
    layer = ShakeDrop((-1.0, 0.5), survival_probability=0.3)
    np.testing.assert_allclose(array(layer(x)), (0.3 - 0.7 * 0.25) * x, rtol=1e-6)
    # The gate is never open: the mean of uniform numbers, to 5 standard errors.
    layer = ShakeDrop((-1.0, 0.5), survival_probability=0.0, seed=1)
    factors = array(layer(x, training=True)) / x, array(layer(x)) / x
    assert abs(factors[0].mean() - factors[1].mean()) < 5 * 1.5 / np.sqrt(12 * 2000)


def test_levels():
    x = np.ones((6, 4, 3), "float32")
    element = array(ShakeDrop(survival_probability=0.0, seed=0)(x, training=True))
    assert len(np.unique(element)) == element.size
    layer = ShakeDrop(survival_probability=0.0, level="sample", seed=0)
    sample = array(layer(x, training=True))
    assert (sample == sample[:, :1, :1]).all() and len(np.unique(sample)) == 6


@pytest.mark.parametrize("survival", [0.0, 1.0])
def test_fixed_factors(survival):
    """A branch that survives is itself, one that does not is dropped where the ranges are 0."""
    layer, x = ShakeDrop((0.0, 0.0), (0.0, 0.0), survival), normal(3, 4)
    value, gradient = values_and_gradients(lambda x: layer(x, training=True))(x)
    np.testing.assert_array_equal(array(value), survival * x)
    np.testing.assert_array_equal(array(gradient), np.full_like(x, survival))
    np.testing.assert_allclose(array(layer(x)), survival * x)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"alpha_range": 0.5}, "`alpha_range` must be two numbers"),
        ({"beta_range": (1.0, 0.0)}, "`beta_range` must not decrease"),
        ({"alpha_range": (0.0, "a")}, "`alpha_range` must be a number"),
        ({"survival_probability": 1.5}, "`survival_probability` must be a number at least 0"),
        ({"level": "batch"}, "`level` must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShakeDrop(**arguments)
