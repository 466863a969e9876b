"""Losses of waveforms against NumPy, what they do not hear, and what they are for."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array, evaluate_loss, normal

SIZES = {"fft_size": 32, "hop_size": 8, "window_length": 25}
Y, P = normal(2, 3, 100)
LOSSES = [
    kr.losses.SpectralConvergence(**SIZES),
    kr.losses.LogSTFTMagnitude(**SIZES),
    kr.losses.MultiResolutionSTFT((32, 16), (8, 5), (25, 16)),
]
losses = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def magnitudes(x, fft_size, hop_size, window_length):
    """Frame by frame in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    left = (fft_size - window_length) // 2
    window = np.pad(window, (left, fft_size - window_length - left))
    x = np.pad(x.astype("float64"), ((0, 0), (fft_size // 2,) * 2), mode="reflect")
    starts = range(0, x.shape[1] - fft_size + 1, hop_size)
    frames = np.stack([x[:, s : s + fft_size] * window for s in starts], axis=1)
    return np.sqrt(np.maximum(np.abs(np.fft.rfft(frames)) ** 2, 1e-7))


@pytest.mark.everywhere
def test_spectra_are_those_of_numpy():
    s, t = (magnitudes(x, **SIZES) for x in (Y, P))
    convergence = np.sqrt(((s - t) ** 2).sum() / (s**2).sum())
    magnitude = np.abs(np.log(s) - np.log(t)).mean((1, 2))
    got = array(LOSSES[0](Y, P))
    np.testing.assert_allclose(got, convergence, rtol=1e-5)
    loss = kr.losses.LogSTFTMagnitude(**SIZES, reduction="none")
    np.testing.assert_allclose(array(loss(Y, P[..., None])), magnitude, rtol=1e-4)
    metric = kr.metrics.LogSpectralDistance(32, 8)
    metric.update_state(Y, P, sample_weight=np.array([1.0, 0.0, 2.0]))
    s, t = (np.log10(magnitudes(x, 32, 8, 32) ** 2) for x in (Y, P))
    each = np.sqrt(((s - t) ** 2).mean(-1)).mean(-1)
    expected = np.average(each, weights=[1, 0, 2])
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


@losses
def test_what_is_not_heard(loss):
    values, gradient = evaluate_loss(loss, Y, Y)
    np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)
    np.testing.assert_allclose(evaluate_loss(loss, Y, -Y)[0], 0.0, atol=1e-5)
    plain = array(loss(Y, P))
    np.testing.assert_allclose(array(loss(10 * Y, 10 * P)), plain, rtol=1e-3)
    quiet = evaluate_loss(loss, 0 * Y, P)
    assert np.isfinite(quiet[0]).all() and np.isfinite(quiet[1]).all()
    if loss.name == "log_stft_magnitude":
        np.testing.assert_allclose(array(loss(Y, 3 * Y)), np.log(3), rtol=1e-3)


@losses
def test_what_does_not_count_is_not_there(loss):
    wild = np.where(np.array([1, 0, 1])[:, None] == 0, np.nan, P)
    weight = np.array([1.0, 0.0, 1.0])
    got = array(loss(Y, wild, sample_weight=weight))
    np.testing.assert_allclose(got, array(loss(Y[::2], P[::2])) * 2 / 3, rtol=1e-5)


def test_what_audio_losses_refuse():
    with pytest.raises(ValueError, match="more than 16 samples"):
        LOSSES[0](Y[:, :16], P[:, :16])
    with pytest.raises(ValueError, match="Expected waveforms"):
        LOSSES[1](np.stack([Y, Y], -1), np.stack([Y, Y], -1))
    with pytest.raises(ValueError, match="shape of `y_pred`"):
        LOSSES[2](Y[:, :50], P)
    with pytest.raises(ValueError, match="an entry for each resolution"):
        kr.losses.MultiResolutionSTFT((32, 16), (8,), (25, 16))
    with pytest.raises(ValueError, match="at most 1024"):
        kr.losses.SpectralConvergence(window_length=2000)
    with pytest.raises(ValueError, match="both 0"):
        kr.losses.MultiResolutionSTFT(spectral_convergence_weight=0, magnitude_weight=0)
    with pytest.raises(ValueError, match="same structure and shapes"):
        kr.generative.feature_matching_loss([Y, P], [Y])
    with pytest.raises(ValueError, match="same structure and shapes"):
        kr.generative.feature_matching_loss([], [])


def test_maps_may_be_nested():
    got = kr.generative.feature_matching_loss([[Y, P[:1]], [P]], [[Y + 1, P[:1]], [P - 2]])
    assert float(got) == pytest.approx(1.0, rel=1e-5)
    assert float(kr.generative.feature_matching_loss(Y, Y - 0.5)) == pytest.approx(0.5, rel=1e-5)


def extractor():
    keras.utils.set_random_seed(0)
    first = keras.layers.Dense(4, activation="tanh", name="first")
    return keras.Sequential([keras.Input((5,)), first, keras.layers.Dense(3, name="second")])


@pytest.mark.parametrize("distance", ["mae", "mse"])
def test_perceptual_loss_is_that_of_the_features(distance):
    net, (y, p) = extractor(), normal(2, 4, 5)
    loss = kr.losses.Perceptual(net, ["second", "first"], [0.5, 2.0], distance, reduction="none")
    expected = 0.0
    for weight, name in ((0.5, "second"), (2.0, "first")):
        maps = keras.Model(net.inputs, net.get_layer(name).output)
        error = np.abs(maps.predict(y, verbose=0) - maps.predict(p, verbose=0))
        expected += weight * (error if distance == "mae" else error**2).mean(-1)
    np.testing.assert_allclose(array(loss(y, p)), expected, rtol=1e-5)
    restored = kr.losses.Perceptual.from_config(loss.get_config())
    np.testing.assert_allclose(array(restored(y, p)), expected, rtol=1e-5)
    whole = kr.losses.Perceptual(net)
    error = np.abs(net.predict(y, verbose=0) - net.predict(p, verbose=0))
    assert float(whole(y, p)) == pytest.approx(error.mean(), rel=1e-5)


@pytest.mark.everywhere
def test_the_network_of_a_perceptual_loss_stays_as_it_is(tmp_path):
    net = extractor()
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    model.compile(keras.optimizers.SGD(0.1), kr.losses.Perceptual(net))
    before, x = net.get_weights(), normal(8, 5)
    losses = model.fit(x, 2 * x, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for a, b in zip(before, net.get_weights()):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "model.keras")
    net.set_weights([0 * w for w in before])
    restored = keras.saving.load_model(tmp_path / "model.keras")
    model.loss.feature_extractor.set_weights(before)
    expected = model.evaluate(x, 2 * x, verbose=0)
    assert restored.evaluate(x, 2 * x, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_what_perceptual_refuses():
    net = extractor()
    for arguments in ((net, ["third"]), (net, ["first"], [1.0, 2.0]), (net, None, None, "l1")):
        with pytest.raises(ValueError):
            kr.losses.Perceptual(*arguments)
    with pytest.raises(ValueError, match="built"):
        kr.losses.Perceptual(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="of one shape"):
        kr.losses.Perceptual(net)(ops.ones((2, 5)), ops.ones((1, 5)))
