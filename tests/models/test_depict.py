"""Deep clustering: the losses' limits, the phases of `fit_clusters`, saving, and digits."""

import keras
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

import keras_regularize as kr
from tests.helpers import array, number, tensor


def parts(inputs=8, code=2, hidden=16):
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dropout(0.1, seed=1),
            layers.Dense(hidden, "leaky_relu"),
            layers.Dropout(0.1, seed=2),
            layers.Dense(code, "tanh"),
        ]
    )
    decoder = [keras.Input((code,)), layers.Dense(hidden, "leaky_relu"), layers.Dense(inputs)]
    return encoder, keras.Sequential(decoder)


def blobs(n=90):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    return (rng.normal(size=(n, 8)) + 6 * np.eye(8)[labels]).astype("float32"), labels


def test_limits_of_the_targets():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    target = kr.losses.cluster_target_distribution
    np.testing.assert_allclose(array(target(p[:1], 2.0)), p[:1], rtol=1e-5)
    root = np.sqrt(p[:1])
    np.testing.assert_allclose(array(target(p[:1], 1.0)), root / root.sum(), rtol=1e-5)
    balanced = np.array([np.roll(p[0], k) for k in range(4)])
    np.testing.assert_allclose(array(target(balanced, 1.0)), balanced, rtol=1e-5)
    raised = p / np.sqrt(p.sum(0))
    np.testing.assert_array_equal(array(target(p, 500.0)).argmax(1), raised.argmax(1))
    np.testing.assert_allclose(array(target(p, 5000.0)).max(1), 1.0)
    empty = np.concatenate([p, np.zeros((6, 1))], axis=1)
    np.testing.assert_allclose(array(target(empty))[:, :4], array(target(p)), rtol=1e-5)
    assert (array(target(np.zeros((2, 3)))) == 0).all()
    with pytest.raises(ValueError, match=r"must be `\(n, clusters\)`"):
        target(p[0])


def test_samples_that_do_not_count_are_in_no_frequency():
    rng = np.random.default_rng(0)
    clean, noisy = rng.dirichlet(np.ones(3), (2, 6)).astype("float32")
    weights = np.array([1, 0, 1, 1, 0, 1], "float32")
    kept = weights > 0
    loss = kr.losses.DEPICT(reduction="none")
    expected = array(loss(clean[kept], noisy[kept]))
    clean[~kept] = np.nan
    np.testing.assert_allclose(array(loss(clean, noisy, weights))[kept], expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"both `\(batch, clusters\)`"):
        loss(np.arange(6), noisy)


def test_student_t_equals_a_loop():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 3))
    layer = kr.layers.StudentTClustering(4, alpha=2.5)
    found = array(layer(tensor(z)))
    squares = np.square(z[:, None] - array(layer.centers)[None]).sum(-1)
    kernel = (1 + squares / 2.5) ** -1.75
    np.testing.assert_allclose(found, kernel / kernel.sum(1, keepdims=True), rtol=1e-5)
    assert np.isfinite(array(layer(tensor(1e6 * z)))).all()


def test_the_losses_of_a_step():
    x, _ = blobs(6)
    model = kr.models.DEPICT(*parts(), 3, reconstruction_factor=2.0, hidden_factor=0.3)
    p = array(model(tensor(x)))
    dense = [layer for layer in model.encoder.layers if layer.weights]
    back = model.decoder.layers
    hidden = array(dense[0](tensor(x)))
    codes = array(dense[1](hidden))
    own = array(back[0](codes))
    error = np.mean((array(back[1](own)) - x) ** 2) + 0.3 * np.mean((own - hidden) ** 2)
    np.testing.assert_allclose(number(sum(model.losses)), 2 * error, rtol=1e-5)
    logits = codes @ array(model.clusters.kernel) + array(model.clusters.bias)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(p, expected, rtol=1e-4)


def test_three_phases_find_blobs_and_are_saved(tmp_path):
    keras.utils.set_random_seed(0)
    x, labels = blobs()
    model = kr.models.DEPICT(*parts(), 3)
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit_clusters(x, (30, 5, 4), 30, seed=0)
    assert list(history) == ["autoencoder", "initialization", "clustering"]
    first = history["autoencoder"]["loss"]
    assert first[-1] < first[0] and len(history["clustering"]["change"]) <= 4
    found = model.predict(x, verbose=0).argmax(-1)
    assert normalized_mutual_info_score(labels, found) > 0.8
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_wrong_arguments():
    encoder, decoder = parts()
    with pytest.raises(ValueError, match="must mirror those of the encoder"):
        kr.models.DEPICT(encoder, parts(hidden=7)[1], 3)
    with pytest.raises(ValueError, match="which the decoder takes"):
        kr.models.DEPICT(encoder, parts(code=3)[1], 3)
    with pytest.raises(ValueError, match="give what the encoder takes"):
        kr.models.DEPICT(encoder, parts(inputs=9)[1], 3)
    with pytest.raises(ValueError, match="built functional or sequential"):
        kr.models.DEPICT(keras.Sequential([keras.layers.Dense(2)]), decoder, 3)
    with pytest.raises(ValueError, match="needs a compiled model"):
        kr.models.DEPICT(encoder, decoder, 3).fit_clusters(np.ones((9, 8)))


@pytest.mark.rotating
def test_digits_are_clustered_better_than_by_k_means():
    x, labels = load_digits(return_X_y=True)
    x = (x[:800] / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = kr.models.DEPICT(*parts(64, 10, 128), 10)
    model.compile(keras.optimizers.Adam(4e-3))
    model.fit_clusters(x, (50, 0, 0), 200, seed=0)
    codes = model.encoder.predict(x, verbose=0)
    model.fit_clusters(x, (0, 5, 20), 200, seed=0)
    deep, *plain = (
        normalized_mutual_info_score(labels[:800], found)
        for found in (
            model.predict(x, verbose=0).argmax(-1),
            *(KMeans(10, n_init=10, random_state=0).fit_predict(part) for part in (x, codes)),
        )
    )
    assert deep > max(plain) + 0.005 and deep > plain[1] + 0.02, (deep, plain)
