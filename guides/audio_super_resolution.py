"""
# Audio super-resolution

A recording at half the rate lacks the upper half of its frequencies. Interpolation gives it more samples, but no brighter
sound. A network can learn which high frequencies belong to the low ones that are there. What it learns depends on the loss:
this guide compares absolute error, a loss of spectrograms, and that with a discriminator, by pictures of what is heard.

**Use this when** there are recordings at the rate you want, of the kind of sound you have: speech, an instrument, a machine.

**Do not when** every sample has to be right, as in measurements: what such a network adds is likely, not known.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_regularize as kr

EPOCHS = 8

"""
## Voices

Sounds of the kind of vowels: overtones of a pitch that glides, loud around two resonances, with some breath. The second
resonance is in the upper half of the frequencies, and rises with the first. Sounds at half the rate have had the upper half
of their spectrum taken away.
"""

LENGTH = 512
generator = np.random.default_rng(0)


def voices(count):
    time = np.arange(LENGTH)
    pitch = generator.uniform(0.010, 0.020, (count, 1)) * (
        1 + generator.uniform(-0.3, 0.3, (count, 1)) * time / LENGTH
    )
    phase = 2 * np.pi * np.cumsum(pitch, axis=1)
    first = generator.uniform(0.05, 0.15, (count, 1))
    sound = 0.03 * generator.normal(size=(count, LENGTH))
    for k in range(1, 40):
        height = k * pitch
        loud = np.exp(-(((height - first) / 0.04) ** 2))
        loud = loud + 0.4 * np.exp(-(((height - 0.25 - first) / 0.04) ** 2))
        sound += np.where(height < 0.5, loud, 0.0) * np.sin(
            k * phase + generator.uniform(0, 6.28, (count, 1))
        )
    return sound


def at_half_the_rate(sound):
    spectrum = np.fft.rfft(sound)
    return np.fft.irfft(spectrum[:, : LENGTH // 4 + 1], LENGTH // 2) / 2


sounds = voices(128)
high = sounds[..., None].astype("float32")
low = at_half_the_rate(sounds)[..., None].astype("float32")
train, test = slice(0, 96), slice(96, None)

"""
## Three losses

The generator, `generative.SpectralUNet`, corrects the spectrogram of the interpolated sound, and starts as interpolation.
`models.AudioSuperResolution` trains it, with `generative.MultiScaleDiscriminator` where that has a weight. The log-spectral
distance counts all frequencies alike.
"""

spectral = kr.losses.MultiResolutionSTFT((128, 64, 256), (32, 16, 64), (128, 64, 256))


def trained(name, loss, adversarial=0.0, features=0.0, epochs=EPOCHS):
    keras.utils.set_random_seed(0)
    network = kr.generative.SpectralUNet(LENGTH // 2, 2, fft_size=128, hop_size=32, filters=(8, 16))
    discriminator = kr.generative.MultiScaleDiscriminator(scales=2, filters=8, num_layers=2)
    model = kr.models.AudioSuperResolution(
        network, discriminator, loss, adversarial, features, seed=0
    )
    model.compile(
        keras.optimizers.Adam(5e-3, beta_1=0.8),
        keras.optimizers.Adam(1e-3, beta_1=0.8),
        metrics=[kr.metrics.LogSpectralDistance(128, 32)],
    )
    if epochs:
        model.fit(low[train], high[train], batch_size=16, epochs=epochs, verbose=0)
    logs = model.evaluate(low[test], high[test], verbose=0, return_dict=True)
    sound = model.predict(low[test], verbose=0)
    error = np.mean(np.abs(sound - high[test]))
    print(
        f"{name:30s} log-spectral distance {logs['log_spectral_distance']:.2f}  absolute error {error:.3f}"
    )
    return {"distance": logs["log_spectral_distance"], "error": error, "sound": sound}


results = {
    "interpolation": trained("interpolation", "mae", epochs=0),
    "absolute error": trained("absolute error", "mae"),
    "spectrograms": trained("spectrograms", spectral),
    "and a discriminator": trained("and a discriminator", spectral, 0.1, 1.0),
}

"""
Interpolation is at a distance of {results["interpolation"]["distance"]:.2f}, absolute error at
{results["absolute error"]["distance"]:.2f}: it cannot know the phase of what is missing, and its best guess is silence. The loss
of spectrograms does not ask for the phase, and comes to {results["spectrograms"]["distance"]:.2f}, with a discriminator
{results["and a discriminator"]["distance"]:.2f}; the absolute error rises from {results["absolute error"]["error"]:.3f} to
{results["spectrograms"]["error"]:.3f} and {results["and a discriminator"]["error"]:.3f}.

What the first sound of the test looks like:
"""


def picture(axis, sound, title):
    window = np.hanning(128)
    frames = [sound[s : s + 128] * window for s in range(0, LENGTH - 127, 8)]
    power = np.log10(np.abs(np.fft.rfft(frames)) ** 2 + 1e-4)
    axis.imshow(power.T, origin="lower", aspect="auto", vmin=-3, vmax=3, extent=(0, LENGTH, 0, 0.5))
    axis.set(title=title, xlabel="sample")


figure, axes = plt.subplots(1, 5, figsize=(12, 3), layout="constrained", sharey=True)
picture(axes[0], sounds[96], "the sound")
for axis, (name, result) in zip(axes[1:], results.items()):
    picture(axis, result["sound"][0, :, 0], name)
axes[0].set_ylabel("frequency per sample")
plt.show()

"""
## Hints

- Make the low rate from the high one as your recordings were made: a network that has seen one low-pass filter fails on
  another.
- The paper takes `adversarial_weight=1`, `features_weight=100` and many thousand steps. With as few as here, large weights
  of a discriminator that knows nothing yet make things worse.
- In noise, the hiss of an s or of breath, the log-spectral distance is no judge of a discriminator: it compares frequency by
  frequency, and is less for a constant loudness than for other noise of the very same kind. Compare how loudness is
  distributed, or listen.
- Choose the resolutions by the sound: windows of 10 to 50 ms. `LogSpectralDistance` needs one that the loss does not have,
  to be an independent judge.
"""
