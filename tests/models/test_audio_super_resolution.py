"""Networks of waveforms, their two objectives, and what they learn."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array, normal

LOSS = kr.losses.MultiResolutionSTFT((64, 32), (16, 8), (64, 32))


def networks(length=64, upsampling=2, scales=2):
    keras.utils.set_random_seed(0)
    generator = kr.generative.SpectralUNet(length, upsampling, 32, 8, (4,))
    return generator, kr.generative.MultiScaleDiscriminator(scales, 4, 1)


def sines(count, length=256, seed=0):
    """Two sines each, the second of three times the frequency of the first, and some noise."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.1, 0.7, (count, 1)), rng.uniform(0, 6.28, (2, count, 1))
    time = np.arange(length)
    waves = np.sin(frequency * time + phase[0]) + 0.5 * np.sin(3 * frequency * time + phase[1])
    return (waves + 0.02 * rng.normal(size=waves.shape))[..., None].astype("float32")


@pytest.mark.everywhere
def test_an_untrained_network_interpolates(tmp_path):
    generator, discriminator = networks()
    time = np.arange(128) * 0.5
    wave = np.sin(0.7 * time + 0.3)[None, :, None].astype("float32")
    got = array(generator(wave[:, ::2]))
    assert got.shape == (1, 128, 1)
    np.testing.assert_allclose(got[:, 32:-32], wave[:, 32:-32], atol=5e-3)
    for network, x in ((generator, wave[:, ::2]), (discriminator, wave)):
        weights = [0.1 + w for w in network.get_weights()]
        network.set_weights(weights)
        network.save(tmp_path / "network.keras")
        loaded = keras.saving.load_model(tmp_path / "network.keras")
        for a, b in zip(*(keras.tree.flatten(net(x)) for net in (network, loaded))):
            np.testing.assert_allclose(array(a), array(b), rtol=1e-5, atol=1e-6)


def test_scales_and_maps_of_the_discriminator():
    maps = kr.generative.MultiScaleDiscriminator(3, 8, 2, 64)(np.zeros((2, 512, 1)))
    shapes = [[tuple(x.shape[1:]) for x in scale] for scale in maps]
    for scale, time in zip(shapes, (512, 256, 128)):
        assert scale == [
            (time, 8),
            (time // 4, 32),
            (time // 16, 64),
            (time // 16, 64),
            (time // 16, 1),
        ]


@pytest.mark.parametrize("scales", [2, 1])
def test_objectives_are_the_formulas(scales):
    """Keras takes the list around that of a single scale away."""
    generator, discriminator = networks(scales=scales)
    model = kr.models.AudioSuperResolution(generator, discriminator, LOSS, 0.5, 10.0)
    model.compile("sgd", "sgd", metrics=[kr.metrics.LogSpectralDistance(64, 16)])
    high = normal(4, 128, 1)
    made = generator.predict(high[:, ::2], verbose=0)
    judged = [discriminator(ops.convert_to_tensor(z)) for z in (high, made)]
    judged = judged if scales > 1 else [[maps] for maps in judged]
    real, fake = ([[array(m) for m in scale] for scale in maps] for maps in judged)
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    judged = sum(relu(1 - r[-1]).mean() + relu(1 + f[-1]).mean() for r, f in zip(real, fake))
    features = sum(np.abs(a - b).mean() for r, f in zip(real, fake) for a, b in zip(r[:-1], f[:-1]))
    adversarial = sum(relu(1 - f[-1]).mean() for f in fake)
    error = float(LOSS(high, made))
    logs = model.evaluate(high[:, ::2], high, verbose=0, return_dict=True)
    assert logs["discriminator_loss"] == pytest.approx(judged, rel=1e-4)
    assert logs["reconstruction_loss"] == pytest.approx(error, rel=1e-4)
    assert logs["features_loss"] == pytest.approx(0.8 / scales * features, rel=1e-4)
    expected = error + 0.5 * adversarial + 8.0 / scales * features
    assert logs["generator_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.everywhere
def test_trains_and_goes_on_from_a_file(tmp_path):
    model = kr.models.AudioSuperResolution(*networks(), LOSS)
    momentum = {"learning_rate": 1e-3, "momentum": 0.9}
    model.compile(keras.optimizers.SGD(**momentum), keras.optimizers.SGD(**momentum))
    high = sines(8, 128)
    model.fit(high[:, ::2], high, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(high[:, ::2], high, batch_size=8, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.rotating
def test_high_frequencies_come_back():
    """They are gone in every second sample: against interpolation and absolute error."""
    high, other, distances = sines(48), sines(16, seed=1), {}
    for name in ("interpolation", "mae", "spectral"):
        loss, weights = (LOSS, (1.0, 10.0)) if name == "spectral" else ("mae", (0.0, 0.0))
        model = kr.models.AudioSuperResolution(*networks(128, 2), loss, *weights)
        metric = kr.metrics.LogSpectralDistance(64, 16)
        model.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-3), metrics=[metric])
        if name != "interpolation":
            model.fit(high[:, ::2], high, batch_size=8, epochs=4, verbose=0)
        logs = model.evaluate(other[:, ::2], other, verbose=0, return_dict=True)
        distances[name] = logs["log_spectral_distance"]
    print("LSD", distances)
    assert distances["spectral"] < 0.7 * min(distances["interpolation"], distances["mae"])


def test_what_audio_networks_refuse():
    with pytest.raises(ValueError, match="divisible by"):
        kr.generative.SpectralUNet(64, 2, 48, 8, (4, 4))
    with pytest.raises(ValueError, match="at most half"):
        kr.generative.SpectralUNet(64, 2, 32, 20, (4,))
    with pytest.raises(ValueError, match="multiples of 4"):
        kr.generative.MultiScaleDiscriminator(filters=6)
    generator, discriminator = networks()
    model = kr.models.AudioSuperResolution(generator, discriminator, LOSS)
    model.compile("sgd", "sgd")
    with pytest.raises(ValueError, match="shape that the generator gives out"):
        model.fit(normal(2, 64, 1), normal(2, 64, 1), verbose=0)
    flat = keras.Sequential([keras.Input((None, 1)), keras.layers.Conv1D(1, 3)])
    model = kr.models.AudioSuperResolution(generator, flat, LOSS)
    model.compile("sgd", "sgd")
    with pytest.raises(ValueError, match="a list of maps for each scale"):
        model.fit(normal(2, 64, 1), normal(2, 128, 1), verbose=0)
