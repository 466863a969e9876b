"""Scores from noisy data: a step against the formula, and denoisers that have seen nothing clean."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.models import SUREScore
from keras_regularize.testing._common import save_and_load
from tests.helpers import array, normal, number

Y = normal(6, 3)
SIGMAS = [2.0, 0.5]


def network(features=3, units=8):
    keras.utils.set_random_seed(0)
    x, sigma = keras.Input((features,)), keras.Input((1,))
    hidden = layers.Dense(units, "silu")(layers.Concatenate()([x, sigma]))
    return keras.Model([x, sigma], layers.Dense(features)(hidden))


class Draws:
    """What `keras.random` gives one after the other, kept."""

    def __init__(self, monkeypatch):
        self.kept = []
        for name in ("normal", "randint"):
            monkeypatch.setattr(keras.random, name, self.keeping(getattr(keras.random, name)))

    def keeping(self, draw):
        def run(*args, **kwargs):
            self.kept.append(draw(*args, **kwargs))
            return self.kept[-1]

        return run


def test_a_step_equals_the_formula(monkeypatch):
    net = network()
    model = SUREScore(net, 0.4, SIGMAS, score_weight=0.5, power=1.5, seed=0)
    model.compile("sgd", run_eagerly=True)
    draws = Draws(monkeypatch)
    outputs = model(Y)
    probe, index, z = map(array, draws.kept)
    sigma = np.array(SIGMAS)[index].astype("float32")

    def denoised(y):
        return y + 0.16 * array(net([y, np.full(6, 0.4, "float32")]))

    h = denoised(Y)
    divergence = np.sum(probe * (denoised(Y + 1e-3 * probe) - h), axis=1) / 1e-3
    risk = np.mean((h - Y) ** 2, axis=1) - 0.16 + 2 * 0.16 * divergence / 3
    score = array(net([h + sigma[:, None] * z, sigma]))
    matching = 0.5 * sigma**1.5 * np.sum((score + z / sigma[:, None]) ** 2, axis=1)
    np.testing.assert_allclose(array(outputs["risk"]), risk, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(array(outputs["score_matching"]), matching, rtol=1e-4)
    for epoch in (0, 3):
        model.epoch.assign(epoch)
        loss = number(model.compute_loss(None, None, outputs, np.arange(6, dtype="float32")))
        expected = np.mean(np.arange(6) * (risk + 0.5 * epoch * matching))
        assert loss == pytest.approx(expected, rel=1e-3)


@pytest.mark.everywhere
@pytest.mark.parametrize("wrap", [lambda model: model, kr.models.SAM], ids=["plain", "SAM"])
def test_the_score_counts_more_from_epoch_to_epoch(wrap):
    inner = SUREScore(network(), 0.4, SIGMAS, divergence="hutchinson", seed=0)
    model = wrap(inner)
    model.compile("sgd")
    assert np.isfinite(model.fit(Y, epochs=3, verbose=0).history["loss"]).all()
    assert number(inner.epoch) == 2
    before = inner.denoise(Y)
    assert before.shape == Y.shape and np.isfinite(before).all()
    if wrap is not kr.models.SAM:
        loaded = save_and_load(inner)
        np.testing.assert_allclose(loaded.denoise(Y), before, rtol=1e-5, atol=1e-6)
        one, other = (float(m.train_on_batch(Y, return_dict=True)["loss"]) for m in (inner, loaded))
        assert one == pytest.approx(other, rel=1e-4)


def linear(a):
    a = a.astype("float32")
    return lambda y: ops.matmul(y, ops.convert_to_tensor(a))


@pytest.mark.everywhere
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has single precision alone")
def test_networks_in_double_precision():
    single = network()
    keras.config.set_dtype_policy("float64")
    double = network()
    keras.config.set_dtype_policy("float32")
    double.set_weights(single.get_weights())
    risks = []
    for net, data in ((single, Y), (double, Y), (single, ops.cast(Y, "float64"))):
        model = SUREScore(net, 0.4, SIGMAS, divergence="exact", seed=0)
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        assert np.isfinite(model.train_on_batch(data, None, np.ones(6, "float32")))
        risks.append(array(model(data)["risk"]))
    np.testing.assert_allclose(risks[1:], [risks[0]] * 2, atol=1e-5)


def test_sure_of_known_denoisers():
    a = normal(3, 3, seed=1)
    exact = array(kr.generative.sure(linear(a), Y, 0.5, divergence="exact"))
    expected = np.mean((Y @ a - Y) ** 2, axis=1) - 0.25 + 0.5 * np.trace(a) / 3
    np.testing.assert_allclose(exact, expected, rtol=1e-4)
    same = array(kr.generative.sure(lambda y: y, Y, 0.5, divergence="exact"))
    np.testing.assert_allclose(same, 0.25, rtol=1e-5)
    none = array(kr.generative.sure(lambda y: 0.0 * y, Y, 0.5, seed=0))
    np.testing.assert_allclose(none, np.mean(Y**2, axis=1) - 0.25, rtol=1e-4, atol=1e-5)
    clean = array(kr.generative.sure(linear(a), Y, 0.0))
    np.testing.assert_allclose(clean, np.mean((Y @ a - Y) ** 2, axis=1), rtol=1e-4)
    images = Y.reshape(3, 2, 3, 1)
    half = kr.generative.sure(lambda y: 0.5 * y, images.astype("float16"), 0.5, divergence="exact")
    assert array(half).shape == (3,) and array(half).dtype == "float32"


def test_sure_is_the_error_in_the_mean():
    rng = np.random.default_rng(0)
    x = np.repeat(normal(1, 4, seed=2), 20000, axis=0)
    y = (x + 0.5 * rng.normal(size=x.shape)).astype("float32")
    a = 0.5 * np.eye(4) + 0.1
    risk = array(kr.generative.sure(linear(a), y, 0.5, divergence="hutchinson", seed=0)).mean()
    assert risk == pytest.approx(np.mean((y @ a - x) ** 2), abs=0.01)


def test_langevin_draws_from_the_prior_and_the_posterior():
    """Normal data with one of two coordinates measured, of which the posterior is known."""
    mean, measured = ops.convert_to_tensor([1.0, -1.0]), 2.0

    def score(x, sigma):
        return (mean - x) / (1.0 + sigma[:, None] ** 2)

    def gradient(x, sigma):
        error = measured - x[:, :1]
        return ops.concatenate([error, 0.0 * error], axis=1) / (0.25 + sigma[:, None] ** 2)

    sigmas, start = np.geomspace(3.0, 0.1, 12), 3 * normal(1500, 2)
    drawn = kr.generative.langevin(score, start, sigmas, 0.3, 30, seed=0)
    np.testing.assert_allclose(drawn.mean(axis=0), [1, -1], atol=0.15)
    np.testing.assert_allclose(drawn.std(axis=0), [1, 1], atol=0.15)
    again = kr.generative.langevin(score, start, sigmas, 0.3, 30, gradient, seed=0)
    np.testing.assert_allclose(again.mean(axis=0), [1 + 1 / 1.25, -1], atol=0.15)
    np.testing.assert_allclose(again.std(axis=0), [np.sqrt(0.2), 1], atol=0.15)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: SUREScore(layers.Dense(2), 0.1, SIGMAS), "`network` must be a `keras.Model`"),
        (lambda: SUREScore(network(), -0.1, SIGMAS), "`noise_level` must be a number at least 0"),
        (lambda: SUREScore(network(), 0.1, []), "`sigmas` must not be empty"),
        (lambda: SUREScore(network(), 0.1, [0.0]), "`sigmas` must be a number above 0"),
        (lambda: SUREScore(network(), 0.1, SIGMAS, divergence="jvp"), "`divergence` must be one"),
        (lambda: SUREScore(network(), 0.1, SIGMAS).compile("sgd", "mse"), "`compile` takes none"),
        (lambda: SUREScore(network(), 0.1, SIGMAS)(np.ones((2, 3), "int32")), "floating data"),
        (lambda: kr.generative.sure(lambda y: y[:, :1], Y, 0.1), "the shape of its inputs"),
        (lambda: kr.generative.sure(lambda y: y, Y, 0.1, Y[:2]), "a probe of the same shape"),
        (lambda: kr.generative.langevin(lambda x, s: x[:, :1], Y, [1.0]), "`score` must give"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.rotating
def test_denoises_digits_without_having_seen_clean_ones():
    from sklearn.datasets import load_digits

    x = (load_digits().data / 16).astype("float32")
    y = (x + np.random.default_rng(0).normal(0, 0.3, x.shape)).astype("float32")
    errors = {"identity": 0.09}
    for name in ("sure", "supervised"):
        net = network(64, 128)
        if name == "sure":
            model = SUREScore(net, 0.3, [0.3], score_weight=0.0, seed=0)
            model.compile(keras.optimizers.Adam(0.01))
            model.fit(y[:1500], epochs=15, batch_size=250, verbose=0)
            cleaned = model.denoise(y[1500:])
        else:
            net.compile(keras.optimizers.Adam(0.01), "mse")
            sigma = np.full(len(y), 0.3, "float32")
            score = (x - y) / 0.09
            net.fit([y[:1500], sigma[:1500]], score[:1500], epochs=15, batch_size=250, verbose=0)
            cleaned = y[1500:] + 0.09 * net.predict([y[1500:], sigma[1500:]], verbose=0)
        errors[name] = np.mean((cleaned - x[1500:]) ** 2)
    assert errors["sure"] < 1.4 * errors["supervised"] and errors["sure"] < 0.045, errors
