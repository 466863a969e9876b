"""Total variation of what a layer gives out."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import evaluate_regularizer, normal, to_be_divided


def test_values_scale_and_flat_images_cost_nothing():
    x = normal(2, 4, 5, 3)
    value, gradient = evaluate_regularizer(kr.regularizers.TotalVariation(), x)
    moved, _ = evaluate_regularizer(kr.regularizers.TotalVariation(), -2.0 * x + 1.0)
    np.testing.assert_allclose(moved, 2.0 * value, rtol=1e-5)
    flat, gradient = evaluate_regularizer(kr.regularizers.TotalVariation(), np.ones_like(x))
    assert flat == 0 and not np.any(gradient)
    assert evaluate_regularizer(kr.regularizers.TotalVariation(), x[:, :1, :1])[0] == 0


def test_weights_scale_single_pixels():
    x = np.zeros((1, 3, 3, 2), "float32")
    x[0, 1, 1] = 1.0
    weights = np.zeros((3, 3))
    weights[1, 1] = 2.0
    value, _ = evaluate_regularizer(kr.regularizers.TotalVariation(0.5, weights=weights), x)
    np.testing.assert_allclose(value, to_be_divided(0.5 * 2.0 * 2.0 * np.sqrt(2.0), 1), rtol=1e-6)


def test_fit_adds_the_mean_over_the_batch_and_a_file_keeps_it(tmp_path):
    weights = [[1.0, 2.0, 1.0, 1.0]] * 4
    penalty = kr.regularizers.TotalVariation(0.1, weights=weights)
    layer = keras.layers.Conv2D(1, 1, activity_regularizer=penalty)
    model = keras.Sequential([keras.Input((4, 4, 2)), layer])
    model.compile("sgd", "mse")
    x = normal(6, 4, 4, 2)
    outputs = model.predict(x, verbose=0)
    down, right = np.zeros_like(outputs), np.zeros_like(outputs)
    down[:, :-1], right[:, :, :-1] = np.diff(outputs, axis=1), np.diff(outputs, axis=2)
    jumps = np.asarray(weights)[:, :, None] * np.sqrt(down**2 + right**2)
    loss = model.evaluate(x, outputs, batch_size=6, verbose=0)
    np.testing.assert_allclose(loss, 0.1 * jumps.sum() / 6, rtol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.evaluate(x, outputs, 6, verbose=0), loss, rtol=1e-5)


@pytest.mark.once
def test_errors():
    with pytest.raises(ValueError, match="needs an `epsilon`"):
        kr.regularizers.TotalVariation(exponent=0.5)
    with pytest.raises(ValueError, match="is of images"):
        kr.regularizers.TotalVariation()(normal(4, 3))
    with pytest.raises(ValueError, match="`weights` must be"):
        kr.regularizers.TotalVariation(weights=np.ones((2, 2)))(normal(1, 3, 3, 1))
    for weights in (-np.ones((3, 3)), np.full((3, 3), np.nan), np.ones(3)):
        with pytest.raises(ValueError, match="`weights` must be finite"):
            kr.regularizers.TotalVariation(weights=weights)
    with pytest.raises(ValueError, match="is of images"):
        kr.losses.ElasticGradient()(normal(4, 3), normal(4, 3))
