"""The T-loss with learnt degrees of freedom against SciPy's distribution."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import keras_regularize as kr
from keras_regularize.layers.segmentation.t_loss_endpoint import negative_log_t
from keras_regularize.testing._common import to_numpy, values_and_gradients


@pytest.mark.everywhere
@pytest.mark.parametrize("size", [1, 7, 65536])
def test_values_and_gradients_are_those_of_the_density(size):
    nu, squares = np.array([0.05, 1.0, 3.0, 200.0]), 0.3 * size
    run = values_and_gradients(lambda nu: negative_log_t(ops.cast(squares, "float32"), size, nu))
    value, gradient = map(to_numpy, run(nu.astype("float32")))
    expected = special.gammaln(nu / 2) - special.gammaln((nu + size) / 2)
    expected += size / 2 * np.log(np.pi * nu) + (nu + size) / 2 * np.log1p(squares / nu)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=2e-6)
    slope = (special.digamma(nu / 2) - special.digamma((nu + size) / 2)) / 2 + size / (2 * nu)
    slope += np.log1p(squares / nu) / 2 - (nu + size) / 2 * squares / (nu * (nu + squares))
    np.testing.assert_allclose(gradient, slope, rtol=2e-4, atol=2e-6)


def model_of(nu):
    x, masks = keras.Input((3, 2, 1)), keras.Input((3, 2), dtype="uint8", optional=True)
    return kr.models.WithLabels(
        keras.Model([x, masks], kr.layers.TLossEndpoint(nu, name="end")([x, masks]))
    )


@pytest.mark.everywhere
def test_training_adds_the_loss_and_moves_nu():
    p = np.random.default_rng(0).uniform(size=(2, 3, 2, 1)).astype("float32")
    masks = np.arange(12).reshape(2, 3, 2).astype("uint8") % 2
    model = model_of(2.0)
    model.compile(keras.optimizers.SGD(0.1))
    errors = (p[..., 0] - masks).reshape(2, -1).astype("float64")
    expected = -stats.multivariate_t(np.zeros(6), np.eye(6), 2.0).logpdf(errors).mean()
    history = model.fit(p, masks, epochs=2, verbose=0).history["loss"]
    np.testing.assert_allclose(history[0], expected, rtol=1e-5)
    np.testing.assert_allclose(expected, float(kr.losses.TLoss(nu=2.0)(masks, p)), rtol=1e-5)
    assert history[1] < history[0]
    np.testing.assert_allclose(model.predict(p, verbose=0), p)


def test_errors():
    with pytest.raises(ValueError, match="`nu` must be a number above 0"):
        kr.layers.TLossEndpoint(nu=0.0)
    layer = kr.layers.TLossEndpoint()
    with pytest.raises(ValueError, match="equal shapes"):
        layer([np.zeros((2, 3, 1), "float32"), np.zeros((2, 4), "int32")], training=True)
    with pytest.raises(ValueError, match="needs the labels in training"):
        layer(np.zeros((2, 3, 1), "float32"), training=True)
