"""The layer in a model: what it adds in training, and that its centres learn."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")
LABELS = np.array([0, 2, 2, 0, 0, 2])
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("multiplier, factor", [(None, 2.0), (1.0, 1.0), (5.0, 5.0)])
def test_fit_adds_both_parts_and_trains_the_centres(multiplier, factor):
    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    layer = kr.layers.NeuralCollapse(3, 0.5, 2.0, center_learning_rate_multiplier=multiplier)
    shift = keras.layers.Dense(4, kernel_initializer="identity", trainable=multiplier is None)
    net = keras.Model([x, labels], keras.layers.Dense(3)(layer([shift(x), labels])))
    model = kr.models.WithLabels(net)
    model.compile(keras.optimizers.SGD(0.1), LOSS)

    centers = to_numpy(layer.centers)
    between, slope = map(to_numpy, values_and_gradients(kr.losses.neural_collapse_between)(centers))
    expected, slope = to_numpy(LOSS(LABELS, net([X, None]))) + 2.0 * between, 2.0 * slope
    for k in (0, 2):
        apart = X[LABELS == k] - centers[k]
        expected += 0.5 / 3 * np.mean(np.sum(apart**2, axis=1))
        slope[k] -= 0.5 / 3 * 2 * apart.mean(axis=0)
    loss = model.fit(X, LABELS, batch_size=6, verbose=0).history["loss"][0]
    assert loss == pytest.approx(expected, rel=1e-4)
    moved = centers - 0.1 * factor * slope
    np.testing.assert_allclose(to_numpy(layer.centers), moved, rtol=1e-4, atol=1e-5)


def test_the_defaults_are_the_authors():
    config = kr.layers.NeuralCollapse(3).get_config()
    assert (config["within_factor"], config["between_factor"]) == (0.01, 0.1)
    assert kr.layers.NeuralCollapse(3, within_factor=0)._multiplier() == 1
    assert kr.layers.NeuralCollapse(3)._multiplier() == pytest.approx(100)


def test_features_are_drawn_at_the_plain_factor():
    """The multiplier of the centres does not reach the features."""
    layer = kr.layers.NeuralCollapse(3, 0.5, 0.0)
    layer.build([(None, 4), (None,)])
    centers = to_numpy(layer.centers)

    def added(x):
        *_, losses = layer.stateless_call(
            [layer.centers.value], [], [x, LABELS], training=True, return_losses=True
        )
        return losses[0]

    _, slope = map(to_numpy, values_and_gradients(added)(X))
    counts = np.bincount(LABELS, minlength=3)[LABELS]
    expected = 0.5 / 3 * 2 * (X - centers[LABELS]) / counts[:, None]
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)


def test_at_inference_features_pass_and_nothing_is_added():
    layer = kr.layers.NeuralCollapse(3)
    for inputs in ([X, LABELS], [X, None], X):
        np.testing.assert_array_equal(to_numpy(layer(inputs)), X)
        assert layer.losses == []
    with pytest.raises(ValueError, match="`NeuralCollapse` needs the labels in training"):
        layer(X, training=True)
    with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2"):
        kr.layers.NeuralCollapse(1)
    with pytest.raises(
        ValueError, match="`center_learning_rate_multiplier` must be a number above 0"
    ):
        kr.layers.NeuralCollapse(3, center_learning_rate_multiplier=0)
    with pytest.raises(ValueError, match="class ids from 0 to 2, or negative.*labels up to 3"):
        layer([X, np.array([0, 1, 2, 3, -1, 0])], training=True)
    with pytest.raises(ValueError, match="`within_factor` must be a number at least 0"):
        kr.layers.NeuralCollapse(3, -0.1)
