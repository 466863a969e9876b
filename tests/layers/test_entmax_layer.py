"""The layer Entmax: what it computes, and the gradient of a learned alpha."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import autodiff
from keras_regularize.layers import Entmax
from keras_regularize.testing._common import to_numpy

X = np.random.default_rng(0).normal(size=(4, 3, 6)) * 2


def oracle(row, alpha):
    """Bisection on the threshold in float64, as the definition has it."""
    scaled = (alpha - 1) * (row - row.max())
    low, high = -1.0, 0.0
    for _ in range(200):
        middle = (low + high) / 2
        p = np.maximum(scaled - middle, 0) ** (1 / (alpha - 1))
        low, high = (middle, high) if p.sum() >= 1 else (low, middle)
    return p / p.sum()


def of_rows(x, alpha):
    return np.apply_along_axis(oracle, -1, x, alpha)


@pytest.mark.parametrize("alpha", [1.01, 1.1, 1.5, 1.9])
def test_value_and_gradients_are_those_of_the_definition(alpha):
    layer = Entmax(alpha, learnable=True)
    x = X.astype("float32").astype("float64")
    np.testing.assert_allclose(to_numpy(layer(x)), of_rows(x, alpha), rtol=1e-3, atol=1e-5)
    cotangent = np.random.default_rng(1).normal(size=x.shape)

    def weighted(logit, scores):
        with keras.StatelessScope(state_mapping=[(layer.logit, logit)]):
            return ops.sum(layer(scores) * ops.convert_to_tensor(cotangent.astype("float32")))

    run = autodiff.grad(lambda both: weighted(*both))
    logit, scores = run([layer.logit.value, ops.convert_to_tensor(x.astype("float32"))])
    h = 1e-5
    slope = ((of_rows(x, alpha + h) - of_rows(x, alpha - h)) * cotangent).sum() / (2 * h)
    sigmoid = alpha - 1
    np.testing.assert_allclose(to_numpy(logit), slope * sigmoid * (1 - sigmoid), rtol=2e-3)
    p = of_rows(x, alpha)
    s = np.where(p > 0, np.where(p > 0, p, 1) ** (2 - alpha), 0)
    inner = (s * cotangent).sum(-1, keepdims=True) / s.sum(-1, keepdims=True)
    np.testing.assert_allclose(to_numpy(scores), s * (cotangent - inner), rtol=1e-2, atol=1e-4)


def test_the_limits_of_alpha_stay_finite():
    x = np.concatenate([X, 0 * X, 1e4 * X]).astype("float32")
    for logit in (-1e4, 1e4):
        layer = Entmax(learnable=True)
        layer.logit.assign([logit])
        expected = of_rows(X, 1 + 1e-4 if logit < 0 else 2 - 1e-4)
        np.testing.assert_allclose(to_numpy(layer(x))[:4], expected, rtol=1e-3, atol=1e-4)

        def total(value, layer=layer):
            with keras.StatelessScope(state_mapping=[(layer.logit, value)]):
                return ops.sum(ops.square(layer(x)))

        assert np.isfinite(to_numpy(autodiff.grad(total)(layer.logit.value))).all()


def test_each_head_has_its_own_and_any_axis_sums_to_one():
    layer = Entmax(1.5, axis=2, learnable=True, alpha_axis=-3)
    x = np.random.default_rng(2).normal(size=(2, 3, 5, 4)).astype("float32")
    layer.build(x.shape)
    alphas = np.array([1.1, 1.5, 1.9])
    layer.logit.assign(np.log((alphas - 1) / (2 - alphas)))
    np.testing.assert_allclose(to_numpy(layer.alpha), alphas, rtol=1e-6)
    found = to_numpy(layer(x))
    for head, alpha in enumerate(alphas):
        expected = np.moveaxis(of_rows(np.moveaxis(x[:, head], 1, -1), alpha), -1, 1)
        np.testing.assert_allclose(found[:, head], expected, rtol=1e-3, atol=1e-5)


def test_sparsity_is_learned_and_saved(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(64, 5)).astype("float32")
    y = of_rows(x.astype("float64"), 1.8).astype("float32")
    model = keras.Sequential([keras.Input((5,)), Entmax(1.2, learnable=True)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(np.tile(x, (200, 1)), np.tile(y, (200, 1)), batch_size=64, verbose=0)
    assert abs(to_numpy(model.layers[0].alpha)[0] - 1.8) < 0.02
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_as_the_activation_of_a_layer(tmp_path):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, activation=Entmax(1.3, learnable=True))]
    )
    assert len(model.trainable_variables) == 3
    x = X[:, 0, :5].astype("float32")
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(x, np.eye(4), verbose=0)
    assert to_numpy(model.layers[0].activation.alpha)[0] != pytest.approx(1.3, abs=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_bad_arguments():
    for make, message in [
        (lambda: Entmax(0.5), "`alpha` must be a number at least 1"),
        (lambda: Entmax(2.0, learnable=True), "must be above 1 and below 2 where it is learned"),
        (lambda: Entmax(alpha_axis=1), "`alpha_axis` needs `learnable=True`"),
        (lambda: Entmax(learnable=True, alpha_axis=-1)(X), "`alpha_axis` must be an axis of known"),
        (lambda: Entmax(learnable=True, alpha_axis=5)(X), "`alpha_axis` must be an axis of known"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
