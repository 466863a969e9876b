"""The Fisher information of a softmax regression, whose gradients are known."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.analysis import fisher_diagonal

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = np.arange(40, dtype="int32") % 4


def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, bias_initializer="random_normal")]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def probabilities(model):
    kernel, bias = model.get_weights()
    scores = np.exp(X @ kernel + bias)
    return scores / scores.sum(axis=1, keepdims=True)


def test_equals_the_squares_of_the_formula():
    model = classifier()
    errors = probabilities(model) - np.eye(4)[Y]
    before = model.get_weights()
    kernel, bias = fisher_diagonal(model, X, Y)
    np.testing.assert_allclose(kernel, (X**2).T @ errors**2 / 40, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, (errors**2).mean(axis=0), rtol=1e-4)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_drawn_labels_have_the_expected_squares():
    model = classifier()
    p = probabilities(model)
    # Over labels drawn from p the mean of (p - hot)² is p (1 - p).
    expected = (p * (1 - p)).mean(axis=0)
    many = np.repeat(X, 4, axis=0)
    bias = fisher_diagonal(model, many, seed=0)[1]
    np.testing.assert_allclose(bias, expected, rtol=0.2)
    np.testing.assert_array_equal(bias, fisher_diagonal(model, many, seed=0)[1])


def test_consolidation_keeps_what_was_learnt():
    # The second task is learnt from other features, and moves those of the first where nothing holds them.
    rng = np.random.default_rng(0)
    first = np.float32(rng.normal(size=(200, 6)) * [1, 1, 1, 0.1, 0.1, 0.1])
    second = np.float32(rng.normal(size=(200, 6)) * [0.3, 0.3, 0.3, 1, 1, 1])
    y_first = np.int32(first @ [2, -1, 1, 0, 0, 0] > 0)
    y_second = np.int32(second @ [-2, 1, -1, 2, 1, 1] > 0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def accuracy(model, x, y):
        return np.mean(model.predict(x, batch_size=200, verbose=0).argmax(-1) == y)

    def repeated(x, y, times):
        return np.tile(x, (times, 1)), np.tile(y, times)

    kept = []
    for factor in (0.0, 10.0):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(1.0), loss)
        model.fit(*repeated(first, y_first, 40), batch_size=200, shuffle=False, verbose=0)
        fisher = fisher_diagonal(model, first[:50], y_first[:50])
        importance = {v.path: f for v, f in zip(model.trainable_variables, fisher)}
        kr.regularizers.attach(
            model,
            lambda v: kr.regularizers.EWC(v.value, importance[v.path], factor),  # noqa: B023
        )
        model.compile(keras.optimizers.SGD(0.5), loss)
        model.fit(*repeated(second, y_second, 60), batch_size=200, shuffle=False, verbose=0)
        kept.append(accuracy(model, first, y_first))
        assert accuracy(model, second, y_second) > 0.8
    assert kept[1] > kept[0] + 0.1, kept


def test_errors():
    with pytest.raises(ValueError, match="needs a built and compiled model"):
        fisher_diagonal(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), X, Y)
    with pytest.raises(ValueError, match="at least one sample"):
        fisher_diagonal(classifier(), X[:0], Y[:0])
