"""Autoencoders and Jacobian penalties, against what is known of linear maps and of Gaussian data."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from keras_regularize import analysis
from keras_regularize.layers import JacobianPenalty
from tests.helpers import array, normal, number

IDS = np.ones((3, 2), "int32")


def linear(*sizes, **arguments):
    return keras.Sequential(
        [
            keras.Input((sizes[0],)),
            *(layers.Dense(n, use_bias=False, **arguments) for n in sizes[1:]),
        ]
    )


# Penalties on Jacobians


def penalty_of(layer, x, **arguments):
    wrapped = JacobianPenalty(layer, factor=0.6, seed=1, **arguments)
    wrapped(x, training=True)
    (loss,) = wrapped.losses
    return number(loss)


def test_the_penalty_estimates_the_norm_of_a_linear_map():
    dense, x = layers.Dense(3), normal(2, 4)
    dense.build((None, 4))
    half = 0.3 * np.sum(array(dense.kernel) ** 2)
    assert penalty_of(dense, x, samples=2000) == pytest.approx(half, rel=0.05)
    assert penalty_of(dense, x, samples=2000, stddev=1.0) == pytest.approx(half, rel=0.05)
    # Dropout and batch statistics are those of inference, and move once.
    body = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5), dense])
    assert penalty_of(body, x, samples=2000) == pytest.approx(half, rel=0.05)
    norm = layers.BatchNormalization(momentum=0.0)
    penalty_of(norm, x)
    np.testing.assert_allclose(array(norm.moving_mean), x.mean(axis=0), rtol=1e-5)


def test_no_penalty_at_inference_or_for_what_is_masked():
    wrapped = JacobianPenalty(layers.Dense(3))
    assert wrapped(normal(2, 4)) is not None and wrapped.losses == []
    free = JacobianPenalty(layers.Dense(3), factor=0.0)
    assert free(normal(2, 4), training=True) is not None and free.losses == []
    x = normal(2, 3, 4)
    x[:, 1] = 0.0
    dense = layers.Dense(3)
    dense.build((None, 3, 4))
    masked = penalty_of(dense, layers.Masking()(x), samples=1000)
    assert masked == pytest.approx(2 / 3 * penalty_of(dense, x, samples=1000), rel=0.05)
    assert np.isfinite(penalty_of(dense, x[:0]))
    for arguments, message in [
        ({"layer": "dense"}, "wraps a Keras layer"),
        ({"factor": -1}, "`factor`"),
        ({"stddev": 0}, "`stddev`"),
        ({"samples": 0}, "`samples`"),
    ]:
        with pytest.raises(ValueError, match=message):
            JacobianPenalty(**{"layer": layers.Dense(2), **arguments})


@pytest.mark.rotating
def test_singular_values_of_a_denoiser_are_soft_thresholded():
    """Of half the squared error and η times the nuclear norm, the optimum is known."""
    x = normal(200, 3)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / 200)).T * np.sqrt([4.0, 1.0, 0.2])
    eta = 0.5
    keras.utils.set_random_seed(0)
    model = kr.models.JacobianNuclearNorm(
        layers.Dense(3, use_bias=False), layers.Dense(3, use_bias=False), 2 * eta / 3, seed=0
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = np.tile(x, (50, 1))
    model.fit(x, x, batch_size=200, epochs=5, shuffle=False, verbose=0)
    product = array(model.encoder.kernel) @ array(model.decoder.kernel)
    np.testing.assert_allclose(product, np.diag([0.875, 0.5, 0.0]), atol=0.06)
    norms = array(analysis.jacobian_nuclear_norm(model, x[:2]))
    singular = np.linalg.svd(product, compute_uv=False)
    np.testing.assert_allclose(norms, singular.sum(), rtol=1e-4)


def test_the_nuclear_norm_of_one_output_is_the_length_of_the_gradient():
    x = normal(3, 2, 2)
    got = analysis.jacobian_nuclear_norm(lambda x: keras.ops.sum(x**2, axis=(1, 2))[:, None], x)
    np.testing.assert_allclose(array(got), 2 * np.linalg.norm(x.reshape(3, -1), axis=1), rtol=1e-4)
    assert array(analysis.jacobian_nuclear_norm(linear(4, 2), normal(0, 4))).shape == (0,)


# Contractive and denoising autoencoders

COVARIANCE = np.array([[2.0, 0.6], [0.6, 0.5]])
SIGMA = 0.7
BEST = COVARIANCE @ np.linalg.inv(COVARIANCE + SIGMA**2 * np.eye(2))


def gaussian(size):
    """Data of exactly that covariance."""
    x = normal(size, 2)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / size)).T
    return (x @ np.linalg.cholesky(COVARIANCE).T).astype("float32")


@pytest.mark.parametrize("kind, tolerance", [("denoising", 0.03), ("exact", 0.01), ("noise", 0.03)])
def test_the_best_linear_autoencoder_is_found(kind, tolerance):
    net, x = linear(2, 2), gaussian(1000)
    if kind == "denoising":
        model = kr.models.DenoisingAutoencoder(net, SIGMA, seed=0)
    else:
        model = kr.models.ContractiveAutoencoder(net, SIGMA**2 / 2, method=kind, seed=0)
    decay = keras.optimizers.schedules.CosineDecay(0.1, 150)
    model.compile(keras.optimizers.Adam(decay), "mse")
    x = np.tile(x, (50, 1))
    model.fit(x, x, batch_size=1000, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_allclose(array(net.layers[0].kernel), BEST, atol=tolerance)
    expected = -x[:5] @ np.linalg.inv(COVARIANCE + SIGMA**2 * np.eye(2))
    score = array(analysis.autoencoder_score(net, x[:5], SIGMA))
    np.testing.assert_allclose(score, expected, atol=5 * tolerance / SIGMA**2)


def test_the_encoder_is_the_first_half_or_the_layer_that_is_named():
    net, x = linear(4, 3, 2, 3, 4), normal(5, 4)
    kernels = [array(layer.kernel) for layer in net.layers]
    code = np.sum((kernels[0] @ kernels[1]) ** 2)

    def penalty(**arguments):
        losses = []
        for factor in (0.0, 0.5):
            model = kr.models.ContractiveAutoencoder(net, factor, target="encoder", **arguments)
            model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
            losses.append(float(model.train_on_batch(x, x)))
        return 2 * (losses[1] - losses[0])

    assert penalty() == pytest.approx(code, rel=1e-4)
    assert penalty(layer=net.layers[1].name) == pytest.approx(code, rel=1e-4)
    assert penalty(layer=net.layers[0]) == pytest.approx(np.sum(kernels[0] ** 2), rel=1e-4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m(linear(2, 2), target="decoder"), "one of 'reconstruction', 'encoder'"),
        (lambda m: m(linear(2, 2), method="hutchinson"), "one of 'exact', 'noise'"),
        (lambda m: m(linear(2, 2), layer="dense"), "is for `target='encoder'`"),
        (lambda m: trained(m(linear(2, 2), target="encoder")), "needs `layer`"),
        (lambda m: trained(m(linear(2, 2)), [normal(3, 2)] * 2), "model of one input"),
        (lambda m: kr.models.DenoisingAutoencoder(linear(2, 2), -1.0), "`stddev`"),
        (lambda m: trained(m(linear(2, 2)), np.ones((3, 2), "uint8")), "floating"),
        (lambda m: trained(kr.models.DenoisingAutoencoder(linear(2, 2)), IDS), "floating"),
        (lambda m: analysis.autoencoder_score(linear(2, 3), normal(1, 2), 0.1), "the shape of its"),
        (lambda m: analysis.autoencoder_score(linear(2, 2), normal(1, 2), 0.0), "`stddev`"),
        (lambda m: difference(normal(3, 2), normal(2, 2)), "of one shape"),
        (lambda m: difference(normal(3, 2), normal(3, 2), steps=0), "`steps`"),
        (lambda m: kr.generative.AutoencoderSampler(linear(2, 2), 0.1, steps=0), "`steps`"),
        (lambda m: kr.models.SignAutoencoder(0), "`units`"),
        (lambda m: kr.models.SignAutoencoder(2, temperature=0), "`temperature`"),
        (lambda m: kr.activations.straight_through_sign(normal(2), 0.0), "`temperature`"),
        (lambda m: analysis.sign_autoencoder_risk(normal(3)), r"\(units, features\)"),
        (lambda m: analysis.sign_autoencoder_risk(np.eye(2), np.eye(3)), r"\(2, 2\)"),
        (lambda m: analysis.sign_autoencoder_risk(np.zeros((1, 2))), "that varies"),
        (lambda m: analysis.sign_autoencoder_limit(0.0), "`rate`"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(kr.models.ContractiveAutoencoder)


def trained(model, x=None):
    model.compile("sgd", "mse", run_eagerly=True)
    x = normal(3, 2) if x is None else x
    model.fit(x, x, verbose=0)


def difference(start, end, **arguments):
    return analysis.autoencoder_log_density_difference(linear(2, 2), start, end, 0.5, **arguments)


# Densities


def best_autoencoder():
    net = linear(2, 2)
    net.layers[0].set_weights([BEST])
    return net


def test_log_densities_of_a_linear_autoencoder_are_exact():
    a, b = normal(4, 2), normal(4, 2, seed=1)
    precision = np.linalg.inv(COVARIANCE + SIGMA**2 * np.eye(2))
    expected = 0.5 * (np.sum(a @ precision * a, -1) - np.sum(b @ precision * b, -1))
    for steps in (1, 7):
        values = [
            array(
                analysis.autoencoder_log_density_difference(best_autoencoder(), *pair, SIGMA, steps)
            )
            for pair in ((a, b), (b, a))
        ]
        np.testing.assert_allclose(values[0], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(values[1], -expected, rtol=1e-3, atol=1e-4)


def test_chains_have_the_covariance_of_the_density():
    sampler = kr.generative.AutoencoderSampler(best_autoencoder(), SIGMA, 1.0, steps=1, seed=0)
    chain = sampler.sample(np.zeros((1000, 2)), num_steps=60)
    assert chain.shape == (60, 1000, 2) and 0.3 < sampler.acceptance_rate_ < 0.8
    moved = np.any(np.diff(chain, axis=0) != 0, axis=-1).mean()
    assert moved == pytest.approx(sampler.acceptance_rate_, abs=0.02)
    covariance = np.cov(chain[-1].T)
    np.testing.assert_allclose(covariance, COVARIANCE + SIGMA**2 * np.eye(2), atol=0.3)
    np.testing.assert_array_equal(sampler.sample(np.zeros((1000, 2)), 2), chain[:2])


# Codes of signs


def test_a_sign_autoencoder_is_that_of_the_formula():
    x = normal(5, 4)
    for tied in (True, False):
        model = kr.models.SignAutoencoder(3, tied=tied)
        got = array(model(x))
        kernel = array(model.kernel)
        decoder = array(model.scale) * kernel.T if tied else array(model.decoder)
        code = np.sign(x @ kernel)
        np.testing.assert_array_equal(array(model.encode(x)), code)
        np.testing.assert_allclose(got, code @ decoder, rtol=1e-4, atol=1e-6)


def test_the_limit_is_that_of_orthonormal_rows_and_tight_frames():
    rotation = np.linalg.qr(normal(120, 120))[0]
    for rate in (0.25, 0.5, 1.0):
        risk = analysis.sign_autoencoder_risk(rotation[: int(80 * rate)])
        # Of the first 120 features those of the rows alone are seen.
        assert risk == pytest.approx(analysis.sign_autoencoder_limit(80 * rate / 120), rel=1e-6)
    frame = rotation[:, :80]
    limit = analysis.sign_autoencoder_limit(1.5)
    assert limit < analysis.sign_autoencoder_risk(frame) < 1.02 * limit


@pytest.mark.rotating
def test_training_reaches_the_limit_of_bits():
    keras.utils.set_random_seed(0)
    x = normal(2000, 16)
    model = kr.models.SignAutoencoder(8)
    model.build((None, 16))
    before = analysis.sign_autoencoder_risk(array(model.kernel).T)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(x, x, batch_size=100, epochs=12, verbose=0)
    kernel, limit = array(model.kernel), analysis.sign_autoencoder_limit(0.5)
    after = analysis.sign_autoencoder_risk(kernel.T)
    assert before > limit + 0.03
    assert limit <= after < limit + 0.01
    assert np.abs(kernel.T @ kernel - np.eye(8)).max() < 0.2
