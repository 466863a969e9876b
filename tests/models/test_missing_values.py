"""SupNotMIWAE: the bound against loops over codes and samples, and data of every form with missing values."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr
from keras_regularize.models import SupNotMIWAE
from keras_regularize.testing._common import save_and_load
from tests.helpers import array, normal, softmax

X, Y = normal(5, 4, 3), np.array([2, 0, 1, 1, 2])
X[normal(5, 4, 3, seed=1) > 0.3] = np.nan
X[1, 2:] = X[4, 0] = 7.0  # Padding.
X[2], X[3, 1] = np.nan, np.nan
LATENTS, IMPUTATIONS = 3, 2


def model_of_steps(**arguments):
    keras.utils.set_random_seed(3)
    pair = [keras.Input((4, 3)), keras.Input((4, 3))]
    joined = layers.Concatenate()(pair)
    return SupNotMIWAE(
        keras.Model(pair, layers.Dense(4)(joined)),
        keras.Sequential([keras.Input((4, 2)), layers.Dense(6)]),
        keras.Model(pair, layers.Dense(3)(layers.Flatten()(joined))),
        keras.Sequential([keras.Input((4, 3)), layers.Dense(3)]),
        num_latents=LATENTS,
        num_samples=IMPUTATIONS,
        **{"mask_value": 7.0, "seed": 5, **arguments},
    )


def log_normal(x, mean, scale):
    return -0.5 * ((x - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def halves(outputs):
    mean, raw = np.split(outputs, 2, axis=-1)
    return mean, np.logaddexp(raw, 0.0) + 1e-3


def prior(codes, length):
    """Log-density of the codes `(steps, size)` of the time steps that are left."""
    if length is None:
        return log_normal(codes, 0.0, 1.0).sum()
    total = 0.0
    for column in codes.T:
        n = len(column)
        gaps = np.subtract.outer(np.arange(n), np.arange(n))
        covariance = 1 / (1 + (gaps / length) ** 2) + 1e-3 * np.eye(n)
        squares = column @ np.linalg.solve(covariance, column)
        total -= 0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1])
    return total


def formula(model, length):
    """Bound, class probabilities and imputed values of every sample, outside of training."""
    seed, bounds, likely, imputed = 5, [], [], X.copy()
    draws = keras.random.normal((LATENTS, 1, 4, 2), seed=seed)
    more = keras.random.normal((LATENTS, IMPUTATIONS, 1, 4, 3), seed=seed + 1)
    draws, more = array(draws)[:, 0], array(more)[:, :, 0]
    parts = model.encoder, model.decoder, model.classifier, model.missing_model
    encoder, decoder, classifier, missing = (
        lambda *given, part=part: (
            np.concatenate(given, -1).reshape(-1, part.weights[0].shape[0]) @ array(part.weights[0])
            + array(part.weights[1])
        )
        for part in parts
    )
    for x, y in zip(X, Y):
        real = (x != 7.0).any(-1)
        seen = ~np.isnan(x) & real[:, None]
        values, terms, means, classes = np.where(seen, x, 0.0), [], [], []
        mean, scale = halves(encoder(values, seen))
        for k in range(LATENTS):
            z = mean + scale * draws[k]
            m, s = halves(decoder(z))
            weight = log_normal(x, m, s)[seen].sum() + prior(z[real], length)
            weight -= log_normal(z, mean, scale)[real].sum()
            for j in range(IMPUTATIONS):
                full = np.where(seen, x, m + s * more[k, j]) * real[:, None]
                p = softmax(classifier(full, seen))[0]
                logit = missing(full)
                log_mask = -np.logaddexp(0.0, np.where(seen, -logit, logit))[real].sum()
                terms.append([weight, np.log(p[y]) + log_mask + weight])
                classes.append(p)
            means.append(m)
        weights, joint = np.reshape(terms, (LATENTS, IMPUTATIONS, 2)).transpose(2, 0, 1)
        weights = softmax(weights[:, 0])
        bounds.append(-np.mean(np.logaddexp.reduce(joint, axis=0) - np.log(LATENTS)))
        likely.append(np.repeat(weights / IMPUTATIONS, IMPUTATIONS) @ np.array(classes))
        filled = imputed[len(likely) - 1]
        missing_now = ~seen & real[:, None]
        filled[missing_now] = np.tensordot(weights, means, 1)[missing_now]
    return np.array(bounds), np.array(likely), imputed


@pytest.mark.parametrize("length", [None, 2.0])
def test_bound_predictions_and_imputations_equal_the_formula(length):
    model = model_of_steps(length_scale=length)
    model.compile("sgd", metrics=["accuracy"], run_eagerly=True)
    bounds, likely, imputed = formula(model, length)
    np.testing.assert_allclose(model.predict(X, batch_size=2, verbose=0), likely, rtol=1e-4)
    filled = model.impute(X, verbose=0)
    np.testing.assert_allclose(filled, imputed, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(X), likely, rtol=1e-4)
    kept = np.isfinite(X)
    np.testing.assert_array_equal(filled[kept], X[kept])
    weight = np.array([1.0, 0.0, 2.0, 0.5, 1.0], "float32")
    for labels in (Y[:, None], np.eye(3, dtype="float32")[Y]):
        model.compile("sgd", metrics=["accuracy"], run_eagerly=True)
        logs = model.test_on_batch(X, labels, return_dict=True)
        assert float(logs["loss"]) == pytest.approx(bounds.mean(), rel=1e-4)
        assert float(logs["accuracy"]) == pytest.approx(np.mean(likely.argmax(-1) == Y))
    model.compile("sgd", run_eagerly=True)
    logs = model.test_on_batch(X, Y, sample_weight=weight, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(np.mean(weight * bounds), rel=1e-4)


def test_hidden_values_are_counted():
    rates = [0.5, 0.25, 0.0]
    model = model_of_steps(observation_dropout=rates, mask_value=None)
    got = array(model(X, training=True)["log_dropout"])
    seen = (~np.isnan(X)).sum(axis=1)
    assert got.shape == (5, LATENTS, IMPUTATIONS) and len(np.unique(got)) > 5
    for one, (first, second, _) in zip(got, seen):
        possible = first * np.log(0.5) + np.log(0.75) * np.arange(second + 1)
        possible = possible + np.log(0.25) * np.arange(second, -1, -1)
        assert np.abs(one.ravel()[:, None] - possible).min(axis=1).max() < 1e-5
    assert not array(model(X, training=False)["log_dropout"]).any()


@pytest.mark.everywhere
def test_missing_values_train_compiled_and_are_saved():
    """With a sample and a feature of which nothing is observed."""
    x = np.where(X == 7.0, 0.5, X)
    x[..., 2] = np.nan
    model = model_of_steps(mask_value=None, length_scale=2.0)
    model.compile(keras.optimizers.SGD(0.01))
    before = [array(w) for w in model.trainable_variables]
    assert np.isfinite(model.fit(x, Y, epochs=2, verbose=0).history["loss"]).all()
    for old, new in zip(before, model.trainable_variables):
        assert np.isfinite(array(new)).all() and (array(new) != old).any(), new.path
    predicted, filled = model.predict(x, verbose=0), model.impute(x, verbose=0)
    assert np.isfinite(filled).all()
    loaded = save_and_load(model)
    assert loaded.compiled and loaded.optimizer.learning_rate == model.optimizer.learning_rate
    np.testing.assert_allclose(loaded.predict(x, verbose=0), predicted, rtol=1e-4)
    np.testing.assert_allclose(loaded.impute(x, verbose=0), filled, rtol=1e-4, atol=1e-5)


def test_series_of_any_length_and_other_wrappers():
    model = SupNotMIWAE.for_series(
        None, 3, 2, 4, 2, num_latents=2, mask_value=7.0, length_scale=3.0, seed=0
    )
    net = kr.models.SAM(model)
    net.compile("sgd")
    for x in (X[:, :3], np.full((2, 4, 3), 7.0, "float32")):  # A shorter one, nothing but padding.
        logs = net.train_on_batch(x, np.zeros(len(x), "int32"), return_dict=True)
        assert np.isfinite(float(logs["loss"]))
        assert model.predict(x, verbose=0).shape == (len(x), 2)
    assert model.compute_output_spec(keras.Input((None, 3)))["imputed"].shape == (None, None, 3)


def test_tables_and_half_precision():
    x = X.reshape(5, 12)
    pair = [keras.Input((12,)), keras.Input((12,))]

    def dense(outputs):
        return keras.Model(pair, layers.Dense(outputs)(layers.Concatenate()(pair)))

    with_half = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        decoder = keras.Sequential([keras.Input((2,)), layers.Dense(24)])
        model = SupNotMIWAE(dense(4), decoder, dense(1))
        model.compile("sgd", run_eagerly=True)
        assert np.isfinite(float(model.train_on_batch(x, np.array([0, 1, 1, 0, 1]))))
    finally:
        keras.config.set_dtype_policy(with_half)
    assert model.predict(x, verbose=0).shape == (5, 2)


def test_what_it_cannot_train_is_refused():
    model = model_of_steps()
    with pytest.raises(ValueError, match="`compile` takes none"):
        model.compile("sgd", "mse")
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="needs labels"):
        model.fit(X, verbose=0)
    with pytest.raises(ValueError, match="Expected class labels"):
        model.fit(X, np.zeros((5, 4)), verbose=0)
    with pytest.raises(ValueError, match=r"\(batch, …, features\)"):
        model(X[:, 0, 0])
    parts = model.encoder, model.decoder, model.classifier
    with pytest.raises(ValueError, match="`decoder` must be a model"):
        SupNotMIWAE(parts[0], "dense", parts[2])
    with pytest.raises(ValueError, match="size 6, twice the features"):
        SupNotMIWAE(parts[0], layers.Dense(5), parts[2])(X)
    pooled = keras.Sequential([layers.Flatten(), layers.Dense(4)])
    encoder = keras.Model(parts[0].inputs, pooled(parts[0].inputs[0]))
    with pytest.raises(ValueError, match="codes of time steps"):
        SupNotMIWAE(encoder, parts[1], parts[2], length_scale=2.0)(X)
    for name, value in [("num_latents", 0), ("length_scale", 0), ("observation_dropout", 1.0)]:
        with pytest.raises(ValueError, match="rate" if "dropout" in name else name):
            SupNotMIWAE(*parts, **{name: value})


def waves(size, rng):
    """Four frequencies of a wave in four noisy mixtures of its two phases."""
    y, phase = rng.integers(0, 4, size), rng.uniform(0, 2 * np.pi, (size, 1))
    angle = (0.4 + 0.25 * y[:, None]) * np.arange(8) + phase
    x = np.stack([np.sin(angle), np.cos(angle)], axis=-1) @ rng.normal(size=(2, 4))
    x += 0.3 * rng.normal(size=x.shape)
    return ((x - x.mean()) / x.std()).astype("float32"), y


def dense_parts():
    def of_both(outputs, *more):
        pair = [keras.Input((8, 4)), keras.Input((8, 4))]
        hidden = layers.Dense(64, activation="relu")(layers.Flatten()(layers.Concatenate()(pair)))
        outputs = layers.Dense(outputs)(hidden)
        for layer in more:
            outputs = layer(outputs)
        return keras.Model(pair, outputs)

    decoder = [keras.Input((8, 2)), layers.Dense(16, activation="relu"), layers.Dense(8)]
    missing = keras.Sequential([keras.Input((8, 4)), layers.Dense(4)])
    return of_both(32, layers.Reshape((8, 4))), keras.Sequential(decoder), of_both(4), missing


@pytest.mark.rotating
def test_hiding_observed_values_helps_to_classify_what_is_imputed():
    rng = np.random.default_rng(0)
    (x, y), results = waves(800, rng), []
    gone = rng.random(x.shape) < 0.5
    given = np.where(gone, np.nan, x)
    for rate in (0.0, 0.4):
        keras.utils.set_random_seed(1)
        model = SupNotMIWAE(
            *dense_parts(), num_latents=3, observation_dropout=rate, length_scale=3.0, seed=0
        )
        model.compile(keras.optimizers.Adam(0.015))
        known = np.tile(given[:100], (30, 1, 1)), np.tile(y[:100], 30)
        model.fit(*known, batch_size=50, epochs=2, verbose=0)
        p, filled = (
            f(given[200:], batch_size=600, verbose=0) for f in (model.predict, model.impute)
        )
        error = np.sqrt(np.mean((filled - x[200:])[gone[200:]] ** 2))
        results.append([-np.mean(np.log(p[np.arange(600), y[200:]])), error])
    (plain, plain_error), (hidden, hidden_error) = results
    assert hidden < 0.75 * plain
    assert max(plain_error, hidden_error) < 1.0  # By the mean of the feature.
