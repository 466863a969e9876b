"""layers.DropBlock: blocks inside the map, as often as the formula says, and the rest scaled."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.layers import DropBlock
from keras_regularize.testing._common import values_and_gradients
from tests.helpers import array, normal


def loop(begins, sizes, block):
    """Which activations lie in a block: `(batch, *sizes, channels)`."""
    blocks = np.zeros((len(begins), *sizes, begins.shape[-1]), bool)
    for sample, *place, channel in zip(*np.nonzero(begins)):
        for offset in itertools.product(range(block), repeat=len(sizes)):
            at = tuple(p + o for p, o in zip(place, offset))
            if all(a < size for a, size in zip(at, sizes)):
                blocks[(sample, *at, channel)] = True
    return blocks


SIZES = [((7,), 3), ((6, 5), 2), ((5, 4, 3), 2), ((6, 3), 4), ((3,), 8), ((4, 4), 1)]


@pytest.mark.everywhere
@pytest.mark.parametrize("sizes, block", SIZES)
def test_blocks_equal_a_loop(sizes, block):
    places = [max(size - block + 1, 1) for size in sizes]
    begins = np.random.default_rng(0).uniform(size=(3, *places, 2)) < 0.2
    layer = DropBlock(block, 0.5, data_format="channels_last")
    blocks = loop(begins, sizes, block)
    got = layer._blocks(ops.convert_to_tensor(begins), sizes)
    np.testing.assert_array_equal(array(got), blocks)
    x = normal(*blocks.shape)
    run = values_and_gradients(lambda x: layer._without(x, ops.convert_to_tensor(blocks)))
    value, gradient = map(array, run(x))
    factor = ~blocks / (~blocks).mean()
    np.testing.assert_allclose(value, factor * x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, factor, rtol=1e-5)


@pytest.mark.parametrize("sizes, block", [((8,), 3), ((6, 7), 3), ((4, 2), 3)])
def test_shares_are_those_of_the_formula(sizes, block):
    rate, draws = 0.3, 6000
    out = array(
        DropBlock(block, rate, seed=0)(np.ones((draws, *sizes, 1), "float32"), training=True)
    )
    gamma, covering = rate, np.ones(sizes)
    for axis, size in enumerate(sizes):
        k = min(block, size)
        gamma *= size / (k * (size - k + 1))
        along = [sum(p <= i < p + k for p in range(size - k + 1)) for i in range(size)]
        covering = covering * np.reshape(along, [-1 if a == axis else 1 for a in range(len(sizes))])
    expected = 1 - (1 - gamma) ** covering
    share = (out == 0).mean(axis=0)[..., 0]
    assert np.abs(share - expected).max() < 4 * math.sqrt(0.25 / draws)
    assert share.mean() < rate + 0.01  # Blocks overlap.
    assert abs(out.mean() - 1) < 1e-5  # Whatever was drawn.


def test_channels_have_blocks_of_their_own_and_may_come_first():
    x = np.ones((8, 3, 6, 5), "float32")
    out = array(DropBlock(2, 0.3, seed=4, data_format="channels_first")(x, training=True))
    last = array(DropBlock(2, 0.3, seed=4)(np.moveaxis(x, 1, -1), training=True))
    np.testing.assert_array_equal(out, np.moveaxis(last, -1, 1))
    assert (out[:, 0] != out[:, 1]).any()


def test_all_or_nothing_dropped():
    x = np.ones((2, 3, 3, 1), "float32")
    np.testing.assert_array_equal(array(DropBlock(2, 0.0)(x, training=True)), x)
    layer, everywhere = DropBlock(3, 0.9, dtype="float16"), np.ones(x.shape, bool)
    run = values_and_gradients(lambda x: layer._without(x, ops.convert_to_tensor(everywhere)))
    for result in run(x):
        np.testing.assert_array_equal(array(result), np.zeros_like(x))


@pytest.mark.everywhere
def test_unknown_sizes_in_fit():
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    x = DropBlock(4, 0.3, seed=0)(x)
    assert x.shape == (None, None, None, 3)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    model.compile("sgd", "mse")
    for size in (3, 6):
        model.fit(normal(4, size, 5, 2), np.ones((4, 3)), batch_size=3, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"block_size": 0}, "`block_size` must be an integer of at least 1"),
        ({"rate": 1.0}, "`rate` must be a number at least 0 and below 1"),
        ({"data_format": "last"}, "`data_format` must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DropBlock(**arguments)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 2, 2, 2, 1)])
def test_bad_rank(shape):
    with pytest.raises(ValueError, match="1 to 3 axes of space"):
        DropBlock()(np.ones(shape, "float32"))
    with pytest.raises(ValueError, match="1 to 3 axes of space"):
        DropBlock()(keras.Input(shape[1:]))
