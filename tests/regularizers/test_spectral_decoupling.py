"""SpectralDecoupling: the squared penalty, its scale in a model, and the logits it leads to."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.regularizers import SpectralDecoupling
from tests.helpers import number, tensor, to_be_divided


@pytest.mark.parametrize("shape", [(4, 1), (3, 5), (2, 3, 4), (6,), (1, 3)])
@pytest.mark.parametrize("factor", [0.1, 3.0])
def test_value_and_gradient_equal_a_loop(shape, factor):
    z = np.random.default_rng(0).normal(size=shape)
    expected = to_be_divided(np.mean([factor * np.mean(np.square(row)) for row in z]), len(z))
    gradient = to_be_divided(2 * factor * z / z.size, len(z))
    value, grad = autodiff.value_and_grad(SpectralDecoupling(factor))(tensor(z))
    np.testing.assert_allclose(number(value), expected, rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(grad), gradient, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 8])
def test_the_models_loss_is_the_batch_mean(batch):
    z = np.random.default_rng(1).normal(size=(batch, 3)).astype("float32")
    layer = keras.layers.Identity(activity_regularizer=SpectralDecoupling(0.2))
    layer(z)
    np.testing.assert_allclose(float(sum(layer.losses)), 0.2 * np.mean(z**2), rtol=1e-5)


def test_unknown_sizes():
    inputs = keras.Input((None, 3))
    outputs = keras.layers.Identity(activity_regularizer=SpectralDecoupling(0.5))(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    x = np.random.default_rng(2).normal(size=(4, 5, 3)).astype("float32")
    loss = model.evaluate(x, x, batch_size=4, verbose=0)
    np.testing.assert_allclose(loss, 0.5 * np.mean(x**2), rtol=1e-5)


def test_logits_settle_where_the_gradients_balance():
    # One separable point, sigmoid loss log(1 + exp(-z)): its derivative -sigmoid(-z) meets 2 factor z.
    factor = 0.05
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, use_bias=False, activity_regularizer=SpectralDecoupling(factor)),
        ]
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    x, y = np.array([[1.0], [-1.0]] * 8, "float32"), np.array([[1.0], [0.0]] * 8, "float32")
    model.fit(x, y, epochs=200, batch_size=16, verbose=0)
    z = float(model.get_weights()[0][0, 0])
    np.testing.assert_allclose(1 / (1 + np.exp(z)), 2 * factor * z, rtol=1e-3)


def test_factor_zero_and_empty_batch():
    assert number(SpectralDecoupling(0.0)(tensor([[3.0, 4.0]]))) == 0.0
    assert number(SpectralDecoupling()(tensor(np.zeros((0, 3))))) == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_large_logits_are_finite(dtype):
    value, grad = autodiff.value_and_grad(SpectralDecoupling(0.1))(tensor([[1e4, -1e4]], dtype))
    np.testing.assert_allclose(number(value), 1e7, rtol=1e-2)
    assert np.isfinite(ops.convert_to_numpy(ops.cast(grad, "float32"))).all()


def test_saved_with_the_layer(tmp_path):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, activity_regularizer=SpectralDecoupling(0.3))]
    )
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    regularizer = restored.layers[0].activity_regularizer
    assert isinstance(regularizer, SpectralDecoupling) and regularizer.factor == 0.3


def test_bad_factor():
    with pytest.raises(ValueError, match="`factor` must be a number at least 0.*-1"):
        SpectralDecoupling(-1)


def test_scalar():
    with pytest.raises(ValueError, match="of shape \\(batch, …\\)"):
        SpectralDecoupling()(tensor(1.0))
