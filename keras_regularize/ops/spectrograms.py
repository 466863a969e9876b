"""Spectrograms of waveforms, the same on all backends."""

import numpy as np
from keras import ops

from keras_regularize.targets import align_targets
from keras_regularize.validation import check_integer


def check_resolution(fft_size, hop_size, window_length):
    """The sizes of a spectrogram as integers."""
    fft_size = check_integer("fft_size", fft_size, minimum=2)
    hop_size = check_integer("hop_size", hop_size, minimum=1)
    window_length = check_integer("window_length", window_length, minimum=2, maximum=fft_size)
    return fft_size, hop_size, window_length


def periodic_hann(length):
    """The window of Hann that sums to a constant over frames."""
    # Not `window="hann"`: on TensorFlow that is another window where its length is odd.
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)


def spectrum(x, fft_size, hop_size, window_length):
    """Real and imaginary part of the STFT of waveforms `(batch, time)`: `(batch, frames, fft_size // 2 + 1)`.

    The window is in the middle of a frame, and signals are reflected at their ends.
    """
    if 0 in x.shape:  # Which PyTorch does not reflect.
        frames = 1 + x.shape[1] // hop_size
        return (ops.zeros((0, frames, fft_size // 2 + 1), x.dtype) + ops.sum(x),) * 2
    window = periodic_hann(window_length)
    return ops.stft(x, window_length, hop_size, fft_size, window=window, center=True)


def power_spectrogram(x, fft_size, hop_size, window_length):
    """`|STFT|²` of waveforms; see `spectrum`."""
    real, imaginary = spectrum(x, fft_size, hop_size, window_length)
    return real * real + imaginary * imaginary


def read_waveforms(y_true, y_pred, fft_size):
    """Waveforms `(batch, time)` of at least float32, long enough to be reflected."""
    targets, predicted = align_targets(y_true, y_pred)
    shape = tuple(predicted.shape)
    if len(shape) == 3 and shape[-1] == 1:
        targets, predicted = targets[..., 0], predicted[..., 0]
    if len(predicted.shape) != 2:
        raise ValueError(
            f"Expected waveforms (batch, time) or (batch, time, 1). Received: y_pred.shape={shape}"
        )
    if shape[1] is not None and shape[1] <= fft_size // 2:
        raise ValueError(
            f"Expected waveforms of more than {fft_size // 2} samples, half of the largest `fft_size`. "
            f"Received: y_pred.shape={shape}"
        )
    return targets, predicted
