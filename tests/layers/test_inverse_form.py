"""Boundaries compared by a network: tiles by hand, what is trained and what is not."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

import keras_regularize as kr
from keras_regularize.layers.segmentation.inverse_form import moved_boundaries
from keras_regularize.testing._common import save_and_load
from tests.helpers import array

RNG = np.random.default_rng(0)
P = RNG.uniform(size=(2, 8, 12, 1)).astype("float32")
EDGES = RNG.integers(0, 2, (2, 8, 12)).astype("uint8")


def endpoint(tile_size, tiles, **options):
    """A model that gives out its input, and the network of its loss."""
    keras.utils.set_random_seed(0)
    network = kr.layers.inverse_form_network(tile_size, [5])
    x, labels = keras.Input((8, 12, 1)), keras.Input((8, 12), dtype="uint8", optional=True)
    p = keras.layers.Dense(1, kernel_initializer="ones")(x)
    layer = kr.layers.InverseForm(network, tiles, name="end", **options)
    return kr.models.WithLabels(keras.Model([x, labels], layer([p, labels]))), network


def by_hand(network, p, y, size):
    """The mean over tiles, of maps that need no resizing."""
    values = []
    for a, b in zip(p[..., 0], y.astype("float32")):
        for i in range(0, a.shape[0], size):
            for j in range(0, a.shape[1], size):
                h = np.stack([a[i : i + size, j : j + size], b[i : i + size, j : j + size]], -1)
                h = h.reshape(-1)
                w = [array(v) for v in network.variables]
                values.append(np.linalg.norm(np.maximum(h @ w[0] + w[1], 0) @ w[2] + w[3]))
    return np.mean(values)


@pytest.mark.everywhere
def test_the_loss_is_that_of_the_tiles():
    model, network = endpoint(4, [2, 3], factor=0.5)
    model.compile(keras.optimizers.SGD(0.1))
    before = [array(v) for v in network.variables]
    losses = model.fit(P, EDGES, epochs=2, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(0.5 * by_hand(network, P, EDGES, 4), rel=1e-5)
    assert losses[1] < losses[0]
    for old, new in zip(before, network.variables):
        np.testing.assert_array_equal(old, array(new))


def test_the_network_stays_frozen_and_is_saved():
    model, network = endpoint(4, [2, 3])
    model.trainable = False
    model.trainable = True
    assert len(model.trainable_variables) == 2
    assert not network.trainable
    model.compile("sgd")
    again = save_and_load(model)
    found = [m.fit(P, EDGES, verbose=0).history["loss"][0] for m in (model, again)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    for weight in network.variables:
        weight.assign(0.0 * weight)
    layer = kr.layers.InverseForm(network, [1, 1])
    layer([ops.convert_to_tensor(P), ops.convert_to_tensor(EDGES)], training=True)
    assert float(layer.losses[0]) == 0.0


def curves(number, size):
    """Boundaries of ellipses with bumps."""
    t, maps = np.linspace(0, 2 * np.pi, 80), np.zeros((number, size, size), "float32")
    for image in maps:
        r = RNG.uniform(2, 4) * (1 + 0.3 * np.cos(RNG.integers(2, 4) * t + RNG.uniform(0, 6)))
        places = size / 2 - 0.5 + r * np.stack([np.cos(t), RNG.uniform(0.6, 1) * np.sin(t)])
        image[tuple(np.clip(np.round(places), 0, size - 1).astype(int))] = 1
    return maps


@pytest.mark.once
def test_a_network_tells_by_how_much_boundaries_are_moved():
    keras.utils.set_random_seed(0)
    network = kr.layers.inverse_form_network(12, [64])
    network.compile(keras.optimizers.Adam(0.003), "mse")
    errors = kr.layers.train_inverse_form(network, curves(600, 12), epochs=8, seed=0)
    assert errors[-1] < 0.7 * 0.3**2 / 3
    test = ops.convert_to_tensor(curves(100, 12)[..., None])
    layer, sizes = kr.layers.InverseForm(network, [1, 1]), []
    for change in (0.0, 0.15, 0.3):
        matrix = ops.convert_to_tensor(
            np.tile([[change, 0, 0, change]], (100, 1)).astype("float32")
        )
        layer([moved_boundaries(test, matrix), test], training=True)
        sizes.append(float(array(layer.losses[0])))
    assert sizes[0] < 0.8 * sizes[1]
    assert sizes[1] < 0.8 * sizes[2]


def test_boundaries_are_moved_around_their_centre():
    maps = ndimage.gaussian_filter(RNG.normal(size=(9, 9)), 1).astype("float32")
    change = np.array([[0.1, -0.2, 0.15, 0.05]], "float32")
    found = array(moved_boundaries(ops.convert_to_tensor(maps[None, ..., None]), change))[0, ..., 0]
    matrix = np.eye(2) + change.reshape(2, 2)
    matrix = matrix[::-1, ::-1]  # SciPy has rows before columns.
    expected = ndimage.affine_transform(maps, matrix, 4 - matrix @ [4, 4], order=1)
    np.testing.assert_allclose(found[2:7, 2:7], expected[2:7, 2:7], atol=1e-5)


def test_what_is_refused():
    network = kr.layers.inverse_form_network(4, [3])
    with pytest.raises(ValueError, match="boundaries .number, 4, 4, 1"):
        kr.layers.train_inverse_form(network, np.zeros((2, 5, 5)))
    layer = kr.layers.InverseForm(network)
    with pytest.raises(ValueError, match="a network that is not frozen"):
        kr.layers.train_inverse_form(network, np.zeros((2, 4, 4)))
    for labels in (EDGES[:, :4], EDGES[0]):
        with pytest.raises(ValueError, match="maps of boundaries of equal shapes"):
            layer([P, labels], training=True)
    with pytest.raises(ValueError, match="needs the labels in training"):
        layer(P, training=True)
    with pytest.raises(ValueError, match="class ids from 0 to 1"):
        layer([P, EDGES + 1], training=True)
    for wrong in (keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Dense(4)]), None):
        with pytest.raises(ValueError, match="two maps"):
            kr.layers.InverseForm(wrong)
    with pytest.raises(ValueError, match="`tiles` must be two numbers"):
        kr.layers.InverseForm(network, [2])
