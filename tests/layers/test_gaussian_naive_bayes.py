"""The layer against densities, over batches, at its edges, and with few samples."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import keras_regularize as kr
from keras_regularize.layers import GaussianNaiveBayes
from keras_regularize.testing._common import save_and_load, to_numpy

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat([0, 1, 2], [12, 5, 3]))
X = (RNG.normal(size=(20, 4)) + RNG.normal(size=(3, 4))[LABELS]) * [1.0, 0.1, 3.0, 1.0]
QUERIES = RNG.normal(size=(6, 4))


def fitted(x=X, labels=LABELS, **arguments):
    layer = GaussianNaiveBayes(3, **arguments)
    layer.adapt(x, labels)
    return layer


def probabilities(layer, x=QUERIES):
    z = to_numpy(layer(np.asarray(x, "float32"))).astype("float64")
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def test_probabilities_are_those_of_the_densities():
    expected = np.zeros((6, 3))
    for j, x in enumerate(QUERIES):
        for k in range(3):
            density = np.mean(LABELS == k)
            for i in range(4):
                variance = np.mean([np.var(X[LABELS == c, i]) for c in LABELS]) + 0.01
                apart = x[i] - X[LABELS == k, i].mean()
                density *= np.exp(-(apart**2) / (2 * variance)) / np.sqrt(variance)
            expected[j, k] = density
    expected /= expected.sum(axis=-1, keepdims=True)
    for labels in (LABELS, LABELS[:, None], np.eye(3)[LABELS]):
        got = probabilities(fitted(labels=labels, epsilon=0.01))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    kernel, bias = kr.analysis.naive_bayes_head(X, LABELS, 3, epsilon=0.01)
    z = QUERIES @ kernel + bias
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(axis=-1, keepdims=True), expected, rtol=1e-9)


def test_batches_add_up_and_adapting_starts_anew():
    expected = [to_numpy(v) for v in fitted().weights]
    layer = GaussianNaiveBayes(3)
    layer.adapt(100 * X, LABELS)
    layer.adapt(X[:7], LABELS[:7])
    for part in (slice(7, 8), slice(8, 8), slice(8, 20)):
        layer.update(X[part], LABELS[part])
    for got, value in zip(layer.weights, expected):
        np.testing.assert_allclose(to_numpy(got), value, rtol=1e-5, atol=1e-6)


def test_a_new_scale_and_origin_of_a_feature_do_not_matter():
    scale, shift = np.array([100.0, 1e-3, 1.0, 5.0]), np.array([3000.0, 0.0, -1e4, 1.0])
    expected = probabilities(fitted(epsilon=0))
    moved = fitted(scale * X + shift, epsilon=0)
    np.testing.assert_allclose(
        probabilities(moved, scale * QUERIES + shift), expected, rtol=0.05, atol=0.01
    )


def test_without_samples_classes_are_equally_likely_and_missing_ones_unlikely():
    layer = GaussianNaiveBayes(3)
    np.testing.assert_allclose(probabilities(layer), 1 / 3, rtol=1e-6)
    layer.update(X[LABELS < 2], LABELS[LABELS < 2])
    p = probabilities(layer, X)
    assert np.all(np.isfinite(p)) and p[:, 2].max() < 1e-6
    # Nor does a constant feature, whatever it is at test time.
    constant = fitted(np.pad(X, ((0, 0), (0, 1)), constant_values=7.0))
    queries = np.pad(QUERIES, ((0, 0), (0, 1)), constant_values=8.0)
    np.testing.assert_allclose(probabilities(constant, queries), probabilities(fitted()), atol=1e-5)


def test_few_samples_are_enough_for_many_features():
    rng, d = np.random.default_rng(1), 200
    deviation = np.where(np.arange(d) < d // 2, np.sqrt(d), 1.0)

    def draw(size):
        labels = np.arange(size) % 3
        return rng.normal(size=(size, d)) * deviation + np.array([-1.0, 1, 2])[labels][
            :, None
        ], labels

    layer = GaussianNaiveBayes(3)
    layer.adapt(*draw(12))
    x, labels = draw(600)
    assert np.mean(probabilities(layer, x).argmax(axis=-1) == labels) > 0.95


def test_logistic_regression_needs_more_samples_and_gains_more_from_them():
    rng, d = np.random.default_rng(0), 100
    informative = np.arange(d) >= d // 2
    # What the informative features share makes them dependent within a class, against the assumption.
    shared, deviation = informative * rng.uniform(0, 1, d), np.where(informative, 1.0, 10.0)

    def draw(size):
        labels = np.arange(size) % 3
        noise = rng.normal(size=(size, d)) * deviation + rng.normal(size=(size, 1)) * shared
        return noise + np.array([-0.7, 0.7, 1.4])[labels][:, None], labels

    x, labels = draw(2000)
    accuracy = {}
    for size in (30, 3000):
        data = draw(size)
        kernel, bias = kr.analysis.naive_bayes_head(*data, 3)
        regression = LogisticRegression(C=1e3, max_iter=300).fit(*data)
        guesses = (x @ kernel + bias).argmax(axis=-1), regression.predict(x)
        accuracy[size] = [np.mean(guess == labels) for guess in guesses]
    assert accuracy[30][0] > accuracy[30][1] + 0.2, accuracy
    assert accuracy[3000][1] > accuracy[3000][0] + 0.05, accuracy


def test_a_compiled_model_follows_and_is_saved():
    layer = GaussianNaiveBayes(3)
    model = keras.Sequential([keras.Input((4,)), layer])
    before = model.predict(QUERIES, verbose=0)
    layer.adapt(X, LABELS)
    after = model.predict(QUERIES, verbose=0)
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(save_and_load(model).predict(QUERIES, verbose=0), after)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianNaiveBayes(1), "`num_classes` must be an integer of at least 2"),
        (lambda: GaussianNaiveBayes(3, -1), "`epsilon` must be a number at least 0"),
        (lambda: fitted(X, LABELS + 1), "class ids from 0 to 2. Received ids from 1 to 3"),
        (lambda: fitted(X, LABELS - 1), "class ids from 0 to 2. Received ids from -1 to 1"),
        (lambda: fitted(X[:, 0]), r"`features` must be of shape \(n, features\)"),
        (lambda: fitted(X, LABELS[:5]), "Expected class labels as integer ids"),
        (lambda: fitted().update(X[:, :3], LABELS), "`features` must have 4 columns"),
        (lambda: kr.analysis.naive_bayes_head(X, LABELS, 0), "`num_classes` must be an integer"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
