"""The error of a spectrogram on the scale of loudness."""

from keras_regularize.losses.audio._spectral import SpectralLoss
from keras_regularize.ops.spectrograms import check_resolution
from keras_regularize.registration import export


@export
class LogSTFTMagnitude(SpectralLoss):
    r"""Absolute error of the log-magnitudes of a spectrogram: what is soft has to be right, too.

    $$\ell = \operatorname{mean}\, \big| \log |S| - \log |\hat S| \big|,$$

    the mean over frames and frequencies of a sample: a gain of $g$ costs $|\log g|$. The transform is that of
    `kr.losses.SpectralConvergence`; squared magnitudes below $10^{-7}$ count as that, without gradient.

    Args:
        fft_size: Samples of a frame, at least 2.
        hop_size: Samples between frames, at least 1.
        window_length: Samples of the window, from 2 to `fft_size`.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Waveforms `(batch, time)` or `(batch, time, 1)`, of more than half of `fft_size` samples.
        y_pred: Waveforms of the same shape.

    Returns:
        With `reduction="none"` values `(batch,)`, else a scalar.

    Raises:
        ValueError: If a size is out of range, the shapes do not fit, or signals are too short.

    Cost: two transforms.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.LogSTFTMagnitude(fft_size=64, hop_size=16, window_length=64)
    y = np.random.normal(size=(2, 256))
    loss(y, 2 * y)  # log 2
    ```

    Reference: Sercan Ö. Arık, Heewoo Jun and Gregory Diamos, *Fast Spectrogram Inversion using Multi-head
    Convolutional Neural Networks*, IEEE Signal Processing Letters 2019, arXiv:1808.06719. As in Moshe Mandel, Or
    Tal and Yossi Adi, *AERO: Audio Super Resolution in the Spectral Domain*, ICASSP 2023, arXiv:2211.12232.
    """

    def __init__(
        self,
        fft_size: int = 1024,
        hop_size: int = 120,
        window_length: int = 600,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "log_stft_magnitude",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        resolution = check_resolution(fft_size, hop_size, window_length)
        self.fft_size, self.hop_size, self.window_length = resolution

    def terms(self):
        return [(self.fft_size, self.hop_size, self.window_length)], 0.0, 1.0
