"""Pruning by importance: which weights go, and that they stay away."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from keras_regularize.callbacks import RelativeImportancePruning
from keras_regularize.optimizers import Masked

X = np.random.RandomState(0).rand(6, 5, 5, 2).astype("float32")
Y = np.arange(6) % 3


def compiled(optimizer=None, wrap=None):
    keras.utils.set_random_seed(1)
    net = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(3, bias_initializer="ones"),
        ]
    )
    model = net if wrap is None else wrap(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or Masked(keras.optimizers.SGD(0.0)), loss)
    return net, model


def shares(x, kernel, bias):
    """Of every weight, by loops over samples and units."""
    mean = np.zeros(kernel.shape)
    for row in x.astype("float64"):
        for j in range(kernel.shape[1]):
            terms = np.abs(kernel[:, j] * row)
            mean[:, j] += terms / (terms.sum() + abs(bias[j])) / len(x)
    return mean


def windows(x):
    """What a filter of the convolution sees, padded by a row and a column on each side."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = [(i, j) for i in (0, 2, 4) for j in (0, 2, 4)]
    return np.concatenate([padded[:, i : i + 3, j : j + 3].reshape(len(x), -1) for i, j in corners])


@pytest.mark.parametrize("arguments", [{"sparsity": 0.6}, {"threshold": 0.5}])
def test_prunes_the_least_important_of_every_layer(arguments):
    net, model = compiled()
    conv, _, dense = net.layers
    before = [np.array(layer.kernel) for layer in (conv, dense)]
    hidden = keras.Model(net.inputs, dense.input).predict(X, verbose=0)
    inputs = [windows(X), hidden]
    model.fit(X, Y, verbose=0, callbacks=[RelativeImportancePruning(X, **arguments)])
    for layer, kernel, x in zip((conv, dense), before, inputs):
        r = shares(x, kernel.reshape(-1, 3), np.array(layer.bias))
        if "sparsity" in arguments:
            kept = r > np.sort(r, axis=None)[int(0.6 * r.size) - 1]
        else:
            kept = r >= r.mean(0) - 0.5 * r.std(0)
        assert 0 < kept.sum() < kept.size
        expected = np.where(kept.reshape(kernel.shape), kernel, 0)
        np.testing.assert_array_equal(np.array(layer.kernel), expected)


def test_what_is_pruned_stays_so_inside_wrappers_and_counts():
    net, model = compiled(Masked(keras.optimizers.Adam(0.01)), kr.models.SAM)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[RelativeImportancePruning(X, sparsity=0.5)])
    first = [np.array(net.layers[i].kernel) == 0 for i in (0, 2)]
    assert [zeros.mean() for zeros in first] == [0.5, 40 / 81]
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[RelativeImportancePruning(X, sparsity=0.75)])
    for i, zeros in zip((0, 2), first):
        kernel = np.array(net.layers[i].kernel)
        assert (kernel[zeros] == 0).all() and (kernel == 0).sum() == int(0.75 * kernel.size)


def test_a_layer_that_is_called_twice_is_judged_by_all_calls():
    keras.utils.set_random_seed(1)
    shared = layers.Dense(3, bias_initializer="ones")
    layers.Dense(1)(shared(keras.Input((4,))))  # A call elsewhere, which does not count.
    a, b = keras.Input((4,)), keras.Input((2, 4))
    model = keras.Model([a, b], [shared(a), shared(b)])
    model.compile(Masked("sgd"), "mse")
    kernel, bias = model.get_weights()
    rng = np.random.default_rng(0)
    x = rng.random((6, 4), dtype="float32") * [1, 0, 0, 1], rng.random((6, 2, 4)) * [0, 5, 0, 1]
    pruning = RelativeImportancePruning(list(x), sparsity=0.5)
    pruning.set_model(model)
    pruning.on_train_begin()
    r = shares(np.concatenate([x[0], x[1].reshape(-1, 4)]), kernel, bias)
    kept = r > np.sort(r, axis=None)[5]
    np.testing.assert_array_equal(model.get_weights()[0], np.where(kept, kernel, 0))


def test_errors():
    for wrong in ({}, {"sparsity": 0.5, "threshold": 1.0}, {"sparsity": 1.0}, {"threshold": -1.0}):
        with pytest.raises(ValueError, match="`sparsity`|`threshold`"):
            RelativeImportancePruning(X, **wrong)
    _, model = compiled("sgd")
    with pytest.raises(ValueError, match="Masked"):
        model.fit(X, Y, verbose=0, callbacks=[RelativeImportancePruning(X, sparsity=0.5)])
    empty = keras.Sequential([keras.Input((5, 5, 2)), layers.GlobalAveragePooling2D()])
    empty.compile(Masked("sgd"), "mse")
    with pytest.raises(ValueError, match="dense or 2-D convolutional"):
        empty.fit(X, X[:, 0, 0], verbose=0, callbacks=[RelativeImportancePruning(X, sparsity=0.5)])
