"""The schedule of one cycle."""

import keras
import numpy as np
import pytest

from keras_regularize.optimizers import OneCycle
from keras_regularize.testing._common import to_numpy


def test_shape():
    rates = to_numpy(OneCycle(2.0, 1000, cycle_fraction=0.8)(np.arange(1201.0)))
    assert rates[0] == pytest.approx(0.2) and rates.argmax() == 400
    assert rates[400] == pytest.approx(2.0) and rates[800] == pytest.approx(0.2, rel=1e-5)
    np.testing.assert_allclose(rates[1000:], 0.002, rtol=1e-4)
    assert np.abs(np.diff(rates)).max() < 0.0046  # Continuous.
    np.testing.assert_allclose(rates[:400], rates[800:400:-1], rtol=1e-4)
    # A cycle over all steps has no fall.
    whole = to_numpy(OneCycle(2.0, 10, cycle_fraction=1.0)(np.arange(10.0)))
    np.testing.assert_allclose(whole, 0.2 + 1.8 * (1 - np.abs(np.arange(10) / 5 - 1)), rtol=1e-5)


def test_acts_in_an_optimizer():
    variable = keras.Variable([0.0])
    optimizer = keras.optimizers.SGD(OneCycle(1.0, 4, initial_divisor=2.0, cycle_fraction=1.0))
    for _ in range(4):
        optimizer.apply([keras.ops.ones((1,))], [variable])
    np.testing.assert_allclose(to_numpy(variable), [-(0.5 + 0.75 + 1.0 + 0.75)], rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.0, 10), "`max_learning_rate` must be a number above 0"),
        ((1.0, 0), "`total_steps` must be an integer of at least 1"),
        ((1.0, 10, 0.5), "`initial_divisor` must be a number at least 1"),
        ((1.0, 10, 10.0, 0.1), "`final_divisor` must be a number at least 1"),
        ((1.0, 10, 10.0, 10.0, 0.0), "`cycle_fraction` must be a number above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        OneCycle(*arguments)
