"""generative.supnotmiwae_loss: the bound over latent codes."""

import numpy as np
import pytest
from keras import ops

from keras_regularize.generative import supnotmiwae_loss
from keras_regularize.testing._common import float_width
from tests.helpers import array, normal


def terms(*shape):
    return [3 * normal(*shape, seed=seed) for seed in range(6)]


def test_one_latent_is_minus_the_sum():
    y, mask, x, z, q, dropout = terms(1, 5)
    got = array(supnotmiwae_loss(y, mask, x, z, q, dropout))
    np.testing.assert_allclose(got, -(y + mask + x + z - q + dropout)[0], rtol=1e-5)


@pytest.mark.parametrize("index", range(6))
def test_a_constant_shifts_the_loss(index):
    given = terms(4, 5)
    plain = array(supnotmiwae_loss(*given))
    given[index] = given[index] + 2.0
    sign = 1.0 if index == 4 else -1.0
    np.testing.assert_allclose(array(supnotmiwae_loss(*given)), plain + 2.0 * sign, rtol=1e-4)


def test_imputations_have_values_of_their_own():
    """What does not depend on them has an axis of size 1."""
    y, mask, x, z, q, _ = terms(4, 1, 5)
    y, mask = 3 * normal(2, 4, 3, 5)
    got = array(supnotmiwae_loss(y, mask, x, z, q))
    assert got.shape == (3, 5)
    for j in range(3):
        one = supnotmiwae_loss(y[:, j], mask[:, j], x[:, 0], z[:, 0], q[:, 0])
        np.testing.assert_allclose(got[j], array(one), rtol=1e-5)


def test_the_bound_is_tighter_with_more_codes():
    given = [3 * normal(12, 400, seed=seed) for seed in range(5)]
    losses = []
    for count in (1, 12):
        parts = [np.reshape(term, (count, -1)) for term in given]
        losses.append(array(supnotmiwae_loss(*parts)).mean())
    assert losses[0] > losses[1] + 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_large_sums_and_dtypes(dtype):
    if dtype == "float64":
        dtype = float_width()
    given = [ops.cast(ops.convert_to_tensor(term), dtype) for term in terms(3, 2)]
    given[2] = given[2] - 1e4
    got = supnotmiwae_loss(*given)
    wide = [array(t if dtype == "float64" else ops.cast(t, "float32")) for t in given]
    wide = [term.astype("float64") for term in wide]
    joint = sum(wide) - 2 * wide[4]
    expected = -(np.logaddexp.reduce(joint, axis=0) - np.log(3))
    np.testing.assert_allclose(array(got), expected, rtol=1e-12 if dtype == "float64" else 1e-5)


def test_shapes_that_do_not_fit():
    given = terms(4, 5)
    for index, wrong in [(0, normal(5)), (1, normal(3, 5)), (2, normal(4, 6)), (5, normal(4))]:
        changed = [*given[:index], wrong, *given[index + 1 :]]
        with pytest.raises(ValueError, match="of the shape \\(latents, …, batch\\)"):
            supnotmiwae_loss(*changed)
    with pytest.raises(ValueError, match="at least one latent"):
        supnotmiwae_loss(*terms(0, 5))
    assert array(supnotmiwae_loss(*terms(4, 0))).shape == (0,)
