"""models.VAE with its loss, layers.GaussianSampling, losses.OptimalSigmaGaussian and callbacks.KLAnnealing."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.generative import balanced_mse_update, balanced_vae_loss, gaussian_kl
from keras_regularize.masks import with_mask
from keras_regularize.testing._common import float_width
from tests.helpers import array, evaluate_loss, normal, number

X = np.random.default_rng(0).random((24, 6)).astype("float32")


def parts(shape=(6,), latent=2, units=8):
    keras.utils.set_random_seed(0)
    size = int(np.prod(shape))
    x = keras.Input(shape)
    hidden = layers.Dense(units, "tanh")(layers.Flatten()(x))
    encoder = keras.Model(x, [layers.Dense(latent)(hidden), layers.Dense(latent)(hidden)])
    stack = [layers.Dense(units, "tanh"), layers.Dense(size, "sigmoid"), layers.Reshape(shape)]
    return encoder, keras.Sequential([keras.Input((latent,)), *stack])


def vae(compiled=True, rate=0.01, **arguments):
    model = kr.models.VAE(*parts(), seed=1, **arguments)
    if compiled:
        model.compile(keras.optimizers.Adam(rate))
    return model


# The terms


def test_limits_of_the_divergence():
    zeros = np.zeros((3, 4))
    np.testing.assert_array_equal(array(gaussian_kl(zeros, zeros)), 0.0)
    np.testing.assert_allclose(array(gaussian_kl(zeros, zeros, free_bits=0.3)), 1.2, rtol=1e-6)
    assert array(gaussian_kl(zeros[:0], zeros[:0], 0.1, "batch")).shape == (0,)
    mean, log_variance = normal(5, 3, 4), normal(5, 3, 4, seed=1)
    terms = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1)
    found = array(gaussian_kl(mean, log_variance, 0.5, "batch"))
    expected = np.maximum(terms.mean(0), 0.5).sum()
    np.testing.assert_allclose(found.mean(), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="of the same shape"):
        gaussian_kl(mean, log_variance[:, :2])
    with pytest.raises(ValueError, match="`free_bits` must be a number at least 0"):
        gaussian_kl(mean, log_variance, -1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_and_large_values(dtype):
    dtype = float_width() if dtype == "float64" else dtype
    large = ops.cast(ops.convert_to_tensor(1e4 * np.array([[1.0, -1.0]])), dtype)
    run = kr.autodiff.value_and_grad(lambda z: ops.sum(gaussian_kl(z, z)))
    value, gradient = run(large)
    assert np.isfinite(array(ops.cast(value, "float32")))
    # Above and below, the gradient leads back.
    gradient = kr.autodiff.grad(lambda z: ops.sum(gaussian_kl(0.0 * z, z)))(
        ops.convert_to_tensor([[1e4, -1e4]])
    )
    assert array(gradient)[0, 0] > 0 > array(gradient)[0, 1] and np.isfinite(array(gradient)).all()


def test_the_best_variance_is_the_mean_squared_error():
    x, reconstruction = normal(2, 6, 5)
    codes = normal(2, 6, 3)
    error = np.mean((x - reconstruction) ** 2)
    losses = [
        array(balanced_vae_loss(x, reconstruction, *codes, factor * error)).mean()
        for factor in (0.9, 1.0, 1.1)
    ]
    assert losses[1] < min(losses[0], losses[2])
    # Halved data shift the loss if the variance follows.
    halved = array(balanced_vae_loss(x / 2, reconstruction / 2, *codes, error / 4)).mean()
    np.testing.assert_allclose(halved, losses[1] + 5 * np.log(0.5), rtol=1e-5)
    with pytest.raises(ValueError, match="must have the shape of `y_pred`"):
        balanced_vae_loss(x, reconstruction[:, :4], *codes)


def test_the_error_never_rises_and_nan_changes_nothing():
    found = array(balanced_mse_update(1.0, np.array([0.5, np.nan, 2.0, 0.0]), momentum=0.5))
    np.testing.assert_allclose(found, [0.75, 0.75, 0.75, 0.375])
    assert number(balanced_mse_update(1.0, 0.0, 0.9)) == pytest.approx(0.9)
    assert array(balanced_mse_update(1.0, np.zeros(0))).shape == (0,)
    with pytest.raises(ValueError, match="`momentum` must be a number at least 0 and below 1"):
        balanced_mse_update(1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="scalar or"):
        balanced_mse_update(1.0, np.zeros((2, 2)))


def test_optimal_sigma_is_the_likelihood_at_the_error():
    y, p = normal(2, 4, 3, 2)
    loss = kr.losses.OptimalSigmaGaussian(min_log_sigma=None, reduction="none")
    values, gradient = evaluate_loss(loss, y, p)
    variance = np.mean((y - p) ** 2)
    expected = ((y - p) ** 2 / variance + np.log(2 * np.pi * variance)).sum((1, 2)) / 2
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, (p - y) / variance, rtol=1e-4, atol=1e-6)
    # What has no weight has no part in the variance.
    p[0] = np.nan
    weighted = array(loss(y, p, np.array([0.0, 1, 1, 1], "float32")))[1:]
    np.testing.assert_allclose(weighted, evaluate_loss(loss, y[1:], p[1:])[0], rtol=1e-5)
    with pytest.raises(ValueError, match="takes no mask of positions"):
        loss(y, with_mask(ops.convert_to_tensor(y), ops.ones((4, 3), "bool")))
    perfect = evaluate_loss(loss, y, y)
    assert np.isfinite(perfect[0]).all() and (perfect[1] == 0).all()


# The model


@pytest.mark.everywhere
@pytest.mark.parametrize("balance", ["computed", "learned", "optimal"])
def test_a_step_is_that_of_the_formula(balance):
    model = vae(False, balance=balance, momentum=0.5)
    outputs = model(X)
    error = np.mean((array(outputs["reconstruction"]) - X) ** 2)
    variance = {"computed": 1.0, "learned": 1.0, "optimal": error + np.exp(-12)}[balance]
    values = balanced_vae_loss(X, *outputs.values(), mean_squared_error=variance)
    model.compile("sgd")
    first = model.evaluate(X, verbose=0, return_dict=True, batch_size=24)
    assert first["loss"] == pytest.approx(array(values).mean(), rel=1e-3)
    assert first["mean_squared_error"] == pytest.approx(error, rel=1e-4)
    divergence = array(gaussian_kl(outputs["mean"], outputs["log_variance"])).mean()
    assert first["kl_divergence"] == pytest.approx(divergence, rel=1e-3)
    if balance == "computed":
        assert model.reconstruction_variance == 1.0  # `evaluate` moves nothing.
        model.optimizer.learning_rate = 0.0
        logs = model.train_on_batch(X, return_dict=True)
        expected = array(balanced_mse_update(1.0, logs["mean_squared_error"], 0.5))
        assert model.reconstruction_variance == pytest.approx(float(expected), rel=1e-5)
        # Of the step the variance is that from before it.
        assert logs["loss"] == pytest.approx(
            3 * logs["mean_squared_error"] + 3 * np.log(2 * np.pi) + logs["kl_divergence"], rel=1e-3
        )


@pytest.mark.everywhere
def test_saved_and_gone_on_with(tmp_path):
    model = vae(balance="computed")
    model.fit(X, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert loaded.reconstruction_variance == model.reconstruction_variance < 1
    for one in (model, loaded):
        one.fit(X, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(array(loaded.sample(3, seed=5)), array(model.sample(3, seed=5)))


def test_what_users_call():
    model = vae()
    model.fit(X, verbose=0)
    codes = model.encode(X)
    assert array(codes).shape == (24, 2) and array(model.sample(0)).shape == (0, 6)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), array(model.decode(codes)), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(array(model.sample(2)), array(model.sample(2)))
    assert model.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)
    with pytest.raises(ValueError, match="labels are not used"):
        model.fit(X, np.arange(24), verbose=0)
    with pytest.raises(ValueError, match="`compile` takes none"):
        model.compile("adam", "mse")
    with pytest.raises(ValueError, match="no normal distribution"):
        _ = vae(reconstruction="binary_crossentropy").reconstruction_variance


def test_weights_of_zero_hide_anything_and_targets_may_be_others():
    y = X.copy()
    weights = np.ones(24, "float32")
    y[0], weights[0] = np.nan, 0.0
    model = vae(balance="computed")
    logs = model.fit(X, y, sample_weight=weights, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    assert np.isfinite(array(model.encode(X))).all()
    noisy = model.evaluate(X + 0.1, X, verbose=0, return_dict=True)
    outputs = array(model(X + 0.1)["reconstruction"])
    assert noisy["mean_squared_error"] == pytest.approx(np.mean((outputs - X) ** 2), rel=1e-4)


@pytest.mark.parametrize(
    "reconstruction, scale",
    [("binary_crossentropy", 1), ("bce", 1), ("mae", 1)],
)
def test_other_likelihoods_are_sums(reconstruction, scale):
    x, given = np.round(X), reconstruction
    if reconstruction == "bce":
        given = keras.losses.BinaryCrossentropy()
    if reconstruction == "mae":
        given = keras.losses.MeanAbsoluteError()
    model = vae(reconstruction=given, kl_weight=0.0)
    p = array(model(x)["reconstruction"])
    errors = -np.log(np.where(x == 1, p, 1 - p))
    if reconstruction == "mae":
        errors = np.abs(x - p)
    loss = model.evaluate(x, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(errors.sum(1).mean(), rel=1e-4)


@pytest.mark.everywhere
def test_other_train_steps_wrap_it():
    inner = vae(False, balance="computed")
    model = kr.models.SAM(inner, rho=0.05)
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(X, batch_size=8, epochs=2, verbose=0).history
    assert inner.reconstruction_variance < 1 and np.isfinite(history["loss"]).all()
    np.testing.assert_allclose(
        model.predict(X, verbose=0), inner.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_images_of_bytes_half_precision_and_datasets():
    images = np.random.default_rng(0).integers(0, 2, (10, 4, 4, 1)).astype("uint8")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = kr.models.VAE(*parts((4, 4, 1)), balance="computed", seed=1)
        model.compile("adam")
        model.fit(images, batch_size=4, epochs=2, verbose=0)
        assert model.predict(images, verbose=0).dtype == "float16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert 0 < model.reconstruction_variance < 1

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return (X[8 * index : 8 * index + 8],)

    model = vae(balance="learned")
    assert np.isfinite(model.fit(Batches(), verbose=0).history["loss"]).all()


def test_wrong_arguments():
    encoder, decoder = parts()
    with pytest.raises(ValueError, match="`balance` finds the variance"):
        kr.models.VAE(encoder, decoder, "binary_crossentropy", "computed")
    with pytest.raises(ValueError, match="`reconstruction` must be one of"):
        kr.models.VAE(encoder, decoder, "mae")
    with pytest.raises(ValueError, match="must give a list"):
        kr.models.VAE(decoder, encoder)(np.ones((2, 2), "float32"))
    with pytest.raises(ValueError, match="`encoder` must be a model"):
        kr.models.VAE(None, decoder)
    with pytest.raises(ValueError, match="know the shape of a code"):
        kr.models.VAE(keras.Sequential([layers.Dense(2)]), decoder).sample(1)
    with pytest.raises(ValueError, match="of the same shape"):
        kr.models.VAE(*parts((5,)))(X[:, :5]) and kr.models.VAE(encoder, parts((5,))[1]).compile()
        model = kr.models.VAE(encoder, parts((5,))[1])
        model.compile("sgd")
        model.fit(X, verbose=0)


# The layer and the callback


def functional(kl_weight=0.5, **arguments):
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    codes = [layers.Dense(2)(x), layers.Dense(2)(x)]
    z = kr.layers.GaussianSampling(kl_weight, **arguments)(codes)
    return keras.Model(x, layers.Dense(6)(z)), keras.Model(x, codes)


def test_sampling_adds_the_divergence():
    model, encoder = functional(free_bits=0.1, seed=1)
    model.compile("sgd", "mse")
    error = np.mean((model.predict(X, verbose=0) - X) ** 2)
    divergence = array(gaussian_kl(*encoder.predict(X, verbose=0), free_bits=0.1)).mean()
    assert model.evaluate(X, X, verbose=0) == pytest.approx(error + 0.5 * divergence, rel=1e-4)
    mean = np.full((20000, 1), 2.0)
    drawn = array(kr.layers.GaussianSampling(seed=1)([mean, 0 * mean + np.log(9.0)], training=True))
    assert drawn.mean() == pytest.approx(2, abs=0.1) and drawn.std() == pytest.approx(3, abs=0.1)
    with pytest.raises(ValueError, match="needs a list"):
        kr.layers.GaussianSampling()(mean)
    with pytest.raises(ValueError, match="of the same shape"):
        kr.layers.GaussianSampling()([mean, np.ones((20000, 2))])


def test_schedules():
    shares = {
        schedule: [kr.callbacks.KLAnnealing(8, schedule, 2).share(e) for e in range(10)]
        for schedule in ("linear", "sigmoid", "cyclical")
    }
    assert shares["linear"] == [0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 1]
    assert shares["sigmoid"][4] == 0.5 and shares["sigmoid"][0] < 0.01
    assert shares["cyclical"] == [0, 0.5, 1, 1, 0, 0.5, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="`ratio` must be a number above 0"):
        kr.callbacks.KLAnnealing(8, ratio=0)


@pytest.mark.everywhere
@pytest.mark.parametrize("kind", ["model", "layer"])
def test_annealing_acts_in_compiled_steps(kind):
    if kind == "model":
        model = vae(kl_weight=2.0, rate=0.0)
        weight, given = model.kl_weight, (X,)
    else:
        model = functional(2.0)[0]
        model.compile(keras.optimizers.SGD(0.0), lambda y, p: 0.0 * ops.sum(p, axis=-1))
        weight, given = model.layers[-2].kl_weight, (X, X)
    model.evaluate(*given, verbose=0)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((number(weight.value), logs["loss"]))
    )
    annealing = kr.callbacks.KLAnnealing(2)
    model.fit(*given, epochs=3, verbose=0, callbacks=[annealing, look])
    assert [value for value, _ in seen] == [0, 1, 2] and number(weight.value) == 2
    losses = [loss for _, loss in seen]
    assert losses[0] < losses[1] - 0.05 < losses[2] - 0.1
    model.fit(*given, initial_epoch=1, epochs=2, verbose=0, callbacks=[annealing, look])
    assert seen[-1][0] == 1
    with pytest.raises(ValueError, match="needs a `kr.models.VAE`"):
        plain = keras.Sequential([keras.Input((6,)), layers.Dense(6)])
        plain.compile("sgd", "mse")
        plain.fit(X, X, verbose=0, callbacks=[annealing])


# Effects


@pytest.mark.rotating
def test_balanced_terms_reconstruct_digits_that_the_unit_variance_blurs():
    x = (load_digits().data[:300] / 16).astype("float32")
    errors, variance = {}, {}
    for balance in (None, "computed", "learned"):
        model = kr.models.VAE(*parts((64,), 8, 64), balance=balance, momentum=0.8, seed=1)
        model.compile(keras.optimizers.Adam(0.03))
        history = model.fit(x, batch_size=100, epochs=30, verbose=0).history
        errors[balance] = history["mean_squared_error"][-1]
        variance[balance] = model.reconstruction_variance
    assert max(errors["computed"], errors["learned"]) < 0.5 * errors[None]
    assert variance["computed"] == pytest.approx(errors["computed"], rel=0.1)
    assert errors["computed"] == pytest.approx(errors["learned"], rel=0.3)
