"""layers.NestedDropout: prefixes of the features in training, as often as the formula says."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.layers import NestedDropout, nested_dropout_probabilities


def run(layer, inputs, training=True):
    return ops.convert_to_numpy(layer(inputs, training=training))


def test_prefixes_of_a_batch_are_as_frequent_as_the_formula_says():
    layer, x = NestedDropout(3.0, 2.0, seed=1), np.arange(1.0, 13).reshape(2, 6).astype("float32")
    counts = np.zeros(6)
    for _ in range(800):
        out = run(layer, x)
        k = int((out[0] != 0).sum())
        np.testing.assert_array_equal(out, np.where(np.arange(6) < k, x, 0))
        counts[k - 1] += 1
    weights = [np.exp(-(((k - 2.0) / 3.0) ** 2)) for k in range(1, 7)]
    expected = 800 * np.array(weights) / sum(weights)
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # χ², 5 degrees, p = 0.001.


def test_probabilities_at_the_limits():
    np.testing.assert_allclose(nested_dropout_probabilities(7, 0.0, 1e9), np.full(7, 1 / 7))
    np.testing.assert_array_equal(nested_dropout_probabilities(5, 0.0, 1e-3), np.eye(5)[0])
    np.testing.assert_array_equal(nested_dropout_probabilities(5, 1e6, 1e-3), np.eye(5)[4])
    assert nested_dropout_probabilities(1).tolist() == [1.0]
    assert (run(NestedDropout(1e-3), np.ones((2, 5), "float32")) == np.eye(5)[0]).all()


def test_features_at_inference_reach_a_compiled_predict_and_are_saved(tmp_path):
    x = np.ones((3, 5), "float32")
    layer = NestedDropout(2.0, seed=0)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile("sgd", "mse")
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    assert layer.features == 5
    layer.features = np.int64(2)
    expected = x * (np.arange(5) < 2)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    assert restored.layers[0].features == 2
    np.testing.assert_array_equal(restored.predict(x, verbose=0), expected)


def test_dropped_features_get_no_gradient_and_may_be_infinite():
    layer = NestedDropout(1e-3)
    x = np.array([[1.0, np.inf, np.nan]], "float32")
    np.testing.assert_array_equal(run(layer, x), [[1.0, 0.0, 0.0]])
    gradient = kr.autodiff.grad(lambda x: ops.sum(layer(x, training=True)))(
        ops.convert_to_tensor(x)
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), [[1.0, 0.0, 0.0]])


def test_a_seed_replays_and_every_step_draws_anew():
    x = np.ones((2, 40), "float32")
    a, b = NestedDropout(seed=3), NestedDropout(seed=3)
    drawn = [[run(layer, x)[0].sum() for _ in range(8)] for layer in (a, b)]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) > 3

    # The output is the number of kept features, and the loss of a step its square.
    total = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((40,)), NestedDropout(seed=3), total])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    losses = [float(model.train_on_batch(x, np.zeros((2, 1)))) for _ in range(4)]
    assert len(set(losses)) > 1


def test_features_are_the_last_axis():
    out = run(NestedDropout(1.0, seed=0), np.ones((2, 3, 4), "float32"))
    assert (out == out[0, 0]).all() and 0 < out[0, 0].sum() <= 4
    assert run(NestedDropout(), np.ones((0, 4), "float32")).shape == (0, 4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: NestedDropout(0.0), "`stddev` must be a number above 0"),
        (lambda: NestedDropout(-1.0), "`stddev` must be a number above 0"),
        (lambda: NestedDropout(mean="a"), "`mean` must be a number"),
        (lambda: NestedDropout(seed=0.5), "`seed` must be an integer"),
        (lambda: nested_dropout_probabilities(0), "`num_features` must be an integer of at least"),
        (lambda: NestedDropout().features, "belongs to a built layer"),
        (lambda: NestedDropout()(keras.KerasTensor((2, None))), "needs a known number of features"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("features, message", [(0, "at least 1"), (6, "at most the layer's 5")])
def test_bad_features(features, message):
    layer = NestedDropout()
    layer(np.ones((1, 5), "float32"))
    with pytest.raises(ValueError, match=message):
        layer.features = features
