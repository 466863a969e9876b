"""Denoisers that are proximal maps, what they know, and what they solve."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy


def built(seed=0, **config):
    keras.utils.set_random_seed(seed)
    layer = kr.layers.LearnedProximal(**{"units": 6, "num_layers": 2, "beta": 5.0, **config})
    layer.build((None, 3))
    return layer


def points(n=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype("float32")


def test_a_learned_proximal_is_the_gradient_of_a_convex_function():
    layer = built(strong_convexity=0.1)
    a, b = points(50), points(50, seed=1)
    outputs = to_numpy(layer(a)) - to_numpy(layer(b))
    slopes = np.sum(outputs * (a - b), axis=-1)
    assert np.all(slopes >= 0.2 * np.sum((a - b) ** 2, axis=-1) - 1e-5)
    step = 1e-2 * np.eye(3, dtype="float32")
    rises = [to_numpy(layer.potential(a + h) - layer.potential(a - h)) / 2e-2 for h in step]
    np.testing.assert_allclose(np.stack(rises, axis=-1), to_numpy(layer(a)), atol=2e-3)


def test_the_prior_by_its_definition():
    """`f(y)` minimizes `|z - y|² / 2 + φ(z)` over all `z`, `φ` being that found."""
    layer = built(strong_convexity=0.2)
    y = points(1)
    others = to_numpy(layer(points(20, seed=1)))
    everywhere = np.concatenate([to_numpy(layer(y)), others])
    prior = kr.inverse.evaluate_prior(layer, everywhere, iterations=300, learning_rate=0.1)
    assert np.max(to_numpy(prior.residual)) < 1e-3
    values = 0.5 * np.sum((everywhere - y) ** 2, axis=-1) + to_numpy(prior.value)
    assert values.argmin() == 0
    np.testing.assert_allclose(to_numpy(prior.inverse)[0], y[0], atol=1e-2)


def test_gradient_of_a_quadratic_is_linear():
    kernel = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")

    class Quadratic(keras.layers.Layer):
        def call(self, x):
            return 0.5 * ops.sum(x @ ops.convert_to_tensor(kernel) * x, axis=-1, keepdims=True)

    layer = kr.layers.GradientOf(Quadratic())
    np.testing.assert_allclose(
        to_numpy(layer(points())), points() @ (kernel + kernel.T) / 2, atol=1e-5
    )
    with pytest.raises(ValueError, match="takes a Keras model"):
        kr.layers.GradientOf(cube)


def cube(x):
    return x**3


def test_a_convolutional_prior_is_convex_trains_and_is_saved(tmp_path):
    keras.utils.set_random_seed(0)
    potential = kr.inverse.convex_cnn((6, 6, 1), filters=3, num_layers=2, strong_convexity=0.0)
    model = keras.Sequential([keras.Input((6, 6, 1)), kr.layers.GradientOf(potential)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    a, b = np.random.default_rng(0).normal(size=(2, 16, 6, 6, 1)).astype("float32")
    model.fit(a, b, batch_size=8, verbose=0)
    middle = to_numpy(potential((a + b) / 2))
    assert np.all(middle <= to_numpy(potential(a) + potential(b)) / 2 + 1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(a, verbose=0), model.predict(a, verbose=0), atol=1e-6)
    with pytest.raises(ValueError, match="`input_shape` must be"):
        kr.inverse.convex_cnn((6, 6))


def test_both_solvers_find_the_minimum():
    """With the proximal map of a quadratic prior, `x / (1 + c)`, it is ridge regression."""
    rng = np.random.default_rng(0)
    matrix, y = rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(2, 4)).astype("float32")
    for solver in ("pgd", "admm"):
        found = kr.inverse.plug_and_play(
            y, matrix, lambda x: x / 1.1, solver, step_size=0.05, iterations=150
        )
        ridge = np.linalg.solve(matrix.T @ matrix + 2.0 * np.eye(3), matrix.T @ y.T).T
        np.testing.assert_allclose(found, ridge, atol=1e-3, err_msg=solver)
    images = kr.inverse.plug_and_play(y, matrix, lambda x: x / 1.1, shape=(3, 1), iterations=2)
    assert images.shape == (2, 3, 1)
    with pytest.raises(ValueError, match="must keep the shape"):
        kr.inverse.plug_and_play(y, matrix, lambda x: x[..., :2])
    with pytest.raises(ValueError, match="`solver` must be"):
        kr.inverse.plug_and_play(y, matrix, lambda x: x, "fbs")


@pytest.mark.rotating
def test_proximal_matching_learns_the_prior():
    """Of Laplacian numbers in noise: nearer to soft thresholding than the mean, and `|x|` for a prior."""
    rng = np.random.default_rng(0)
    x, noise = rng.laplace(size=(8192, 1)), rng.normal(size=(8192, 1))
    noisy = np.concatenate([x + noise, -x - noise]).astype("float32")
    x = np.concatenate([x, -x]).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([kr.layers.LearnedProximal(16, 1, beta=10.0)])
    model.compile(keras.optimizers.Adam(0.02), "mae")
    model.fit(noisy, x, batch_size=512, epochs=2, verbose=0)
    decay = keras.optimizers.schedules.CosineDecay(0.005, 160, 0.04)
    model.compile(keras.optimizers.Adam(decay), kr.losses.ProximalMatching(1.0))
    schedule = kr.callbacks.GammaSchedule(0.35, epochs_per_stage=5, num_stages=2)
    model.fit(noisy, x, batch_size=1024, epochs=10, callbacks=[schedule], verbose=0)

    grid = np.linspace(-4, 4, 81, dtype="float32")[:, None]
    mode = np.sign(grid) * np.maximum(np.abs(grid) - 1, 0)
    values = np.linspace(-30, 30, 3001)
    weights = np.exp(-np.abs(values) - 0.5 * (grid - values) ** 2)
    mean = np.sum(weights * values, axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    error = np.mean(np.abs(to_numpy(model(grid)) - mode))
    assert error < 0.75 * np.mean(np.abs(mean - mode)), error

    at = np.linspace(-2, 2, 9, dtype="float32")[:, None]
    prior = kr.inverse.evaluate_prior(model.layers[0], at, iterations=200, learning_rate=0.1)
    value = to_numpy(prior.value) - to_numpy(prior.value)[4]
    assert np.mean(np.abs(value - np.abs(at[:, 0]))) < 0.25, value


def test_gamma_is_halved_stage_by_stage():
    x = np.random.default_rng(0).normal(size=(8, 1)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    loss = kr.losses.ProximalMatching(3.0)
    model.compile(keras.optimizers.SGD(0.0), loss)
    schedule = kr.callbacks.GammaSchedule(0.5, epochs_per_stage=1, num_stages=2)
    fitted = model.fit(
        x, x, epochs=3, callbacks=[schedule], validation_data=(x, x), batch_size=8, verbose=0
    )
    expected = [np.mean(1 - np.exp(-(x**2) / gamma**2)) for gamma in (1.0, 0.5, 0.5)]
    np.testing.assert_allclose(fitted.history["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(fitted.history["val_loss"], expected, rtol=1e-5)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="compiled with `kr.losses.ProximalMatching`"):
        model.fit(x, x, callbacks=[schedule], verbose=0)


def test_points_in_double_precision():
    layer = kr.layers.LearnedProximal(4, 1, beta=2.0, strong_convexity=0.5)
    x = np.linspace(-1.0, 1.0, 3)[:, None]
    found = kr.inverse.evaluate_prior(layer, x, iterations=500, learning_rate=0.1)
    assert np.max(to_numpy(found.residual)) < 1e-3
    np.testing.assert_allclose(to_numpy(layer(found.inverse)), x, atol=1e-3)


@pytest.mark.once
def test_errors():
    matrix = np.ones((3, 4), "float32")
    with pytest.raises(ValueError, match="takes batches of measurements"):
        kr.inverse.plug_and_play(np.ones(3), matrix, lambda x: x, solver="admm")
    with pytest.raises(ValueError, match="`denoiser` must be"):
        kr.inverse.plug_and_play(np.ones((1, 3)), matrix, None)
    for shape in (9, (2.0, 2)):
        with pytest.raises(ValueError, match="`shape` must be"):
            kr.inverse.plug_and_play(np.ones((1, 3)), matrix, lambda x: x, shape=shape)
    with pytest.raises(ValueError, match="`input_shape` must be"):
        kr.inverse.convex_cnn(8)
    layer = kr.layers.LearnedProximal(4)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="Expected samples of 3 numbers"):
        layer(np.ones((2, 4)))
